"""Attacks from inside a sandbox on what is around it, through E2B's unmodified client."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from e2b import Sandbox

from tests.security.in_a_box import python, run
from tests.service import Service, cache_directory

pytestmark = pytest.mark.security
REFUSED = ("Operation not permitted", "Permission denied", "Read-only file system", "denied")


# --- processes --------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["user", "root"])
def test_supervisors_cannot_be_signalled(box: Sandbox, user: str) -> None:
    # Their uid does not exist in the user namespace of user code, so it shows as nobody's.
    before = run(box, "ps -eo pid,uid,lstart | awk '$2 == 65534'")
    pids = [line.split()[0] for line in before.splitlines()]
    assert len(pids) >= 3, "init, envd and the gateway"
    for pid in pids:
        assert "not permitted" in run(box, f"kill -9 {pid}", user)
    assert run(box, "ps -eo pid,uid,lstart | awk '$2 == 65534'") == before


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "root", "cwd", "fd"])
def test_supervisors_cannot_be_looked_into(box: Sandbox, file: str) -> None:
    probe = "cat" if file in ("environ", "mem", "maps") else "ls"
    output = run(box, f"{probe} /proc/1/{file} | head -c 100")
    assert any(word in output for word in REFUSED), output


def test_supervisors_cannot_be_traced(box: Sandbox) -> None:
    source = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0), ctypes.get_errno())
"""
    assert python(box, source) == "-1 1\n"


def test_only_the_boxes_processes_are_seen(box: Sandbox) -> None:
    commands = run(box, "ps -eo args")
    assert str(os.getpid()) not in run(box, "ps -eo pid").split() or os.getpid() < 1000
    assert "pytest" not in commands
    assert "code_interpreter.cli" not in commands


# --- files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/root/.ssh",
        "/var/lib/dpkg/status",
        "/boot",
        "/run/host",
        "/sys/kernel/debug",
    ],
)
def test_files_of_the_host_are_not_there(box: Sandbox, path: str) -> None:
    inside = run(box, f"cat {path} 2>&1 || ls {path}")
    if path == "/etc/shadow":
        assert Path(path).read_text() != inside
    else:
        assert "No such file" in inside


def test_secrets_of_the_host_are_nowhere(box: Sandbox, service: Service) -> None:
    key = service.key
    assert key not in run(
        box, "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' ' '"
    )
    places = "/etc /opt/*/code_interpreter /opt/*/kernels /run /tmp /home /root /usr/local/etc /var"
    found = run(box, f"grep -rsl {key} {places} 2>/dev/null")
    assert found == ""


def test_paths_of_the_host_are_not_shown(box: Sandbox, service: Service) -> None:
    shown = run(box, "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; cat /proc/self/mountinfo")
    checkout = Path(__file__).resolve().parents[2]
    for path in (service.data, cache_directory(), checkout, Path(sys.base_prefix)):
        assert f"{path}/" not in shown
    for line in Path("/proc/mounts").read_text().splitlines():
        disk = line.split()[0]
        assert not disk.startswith("/dev/") or disk not in shown


def test_of_the_hosts_python_only_what_runs_programs_is_shown(box: Sandbox) -> None:
    if "No such file" in run(box, "ls /opt/python/bin"):
        pytest.skip("the host's Python is of /usr, which boxes share")
    assert set(run(box, "ls /opt/python").split()) == {"bin", "include", "lib"}
    programs = run(box, "ls /opt/python/bin").split()
    assert all(name.startswith("python") for name in programs), programs
    packages = run(box, "ls /opt/python/lib/python3* /opt/code-interpreter/stdlib")
    assert "asyncio" in packages
    assert "site-packages" not in packages


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/release_agent",
    ],
)
def test_kernel_settings_cannot_be_written(box: Sandbox, path: str) -> None:
    output = run(box, f"echo x > {path}")
    assert any(word in output for word in (*REFUSED, "No such file")), output


def test_what_is_shown_of_the_host_is_mounted_read_only(box: Sandbox) -> None:
    """Whatever its owner and its mode are out there."""
    mounts = [line.split() for line in run(box, "cat /proc/self/mountinfo").splitlines()]
    shown = {
        fields[4]: fields[5].split(",")
        for fields in mounts
        if fields[4].startswith(("/opt/code-interpreter/", "/opt/python"))
    }
    assert {f"/opt/code-interpreter/{name}" for name in ("code_interpreter", "stdlib")} <= set(
        shown
    )
    assert {path: options for path, options in shown.items() if "ro" not in options} == {}


def test_template_is_not_changed_by_a_box(box: Sandbox, service: Service) -> None:
    run(box, "touch /usr/bin/planted /usr/local/bin/planted /etc/planted")
    other = Sandbox.create(timeout=60, **service.options)
    try:
        assert "planted" not in run(other, "ls /usr/bin /usr/local/bin /etc")
        assert not Path("/usr/bin/planted").exists()
    finally:
        other.kill()


def test_descriptors_are_the_standard_ones(box: Sandbox) -> None:
    assert run(box, "ls /proc/self/fd").split() == ["0", "1", "2", "3"], "3 is ls itself"


# --- privileges -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none /mnt",
        "mount --bind /etc /mnt",
        "umount /proc/sys",
        "unshare --user --map-root-user id",
        "unshare --mount id",
        "nsenter --target 1 --mount id",
        "mknod /tmp/disk b 254 0",
        "hostname other",
        "ip link add dummy0 type dummy",
        "dmesg",
        "chroot / mount -t proc proc /mnt",
    ],
)
def test_root_of_the_box_is_not_root_of_the_machine(box: Sandbox, command: str) -> None:
    output = run(box, command)
    words = (*REFUSED, "must be", "failed")
    assert any(word in output for word in words), output


@pytest.mark.parametrize("device", ["mem", "kmem", "kvm", "fuse", "vda", "sda", "loop0", "kmsg"])
def test_devices_of_the_machine_are_absent(box: Sandbox, device: str) -> None:
    assert "No such file" in run(box, f"ls /dev/{device}")


def test_sudo_is_root_of_the_box_only(box: Sandbox) -> None:
    if "not found" in run(box, "sudo -n true", "user"):
        pytest.skip("this machine has no sudo for its sandboxes (apt-get install sudo)")
    assert run(box, "sudo -n id -u", "user") == "0\n"
    assert "not permitted" in run(box, "sudo -n kill -9 1", "user")
    assert any(word in run(box, "sudo -n mount -t tmpfs none /mnt", "user") for word in REFUSED)


def test_supervisors_import_nothing_that_the_box_can_write(service: Service) -> None:
    fresh = Sandbox.create(timeout=120, **service.options)
    try:
        plant = (
            "for f in $(find /usr/local/lib/python3*/site-packages/{anyio,starlette,uvicorn,e2b,"
            "connectrpc,tornado,jupyter_client,zmq,pydantic} /usr/lib/python3.*/asyncio "
            "-name '*.py' 2>/dev/null); do "
            "sed -i '1i import os; os.system(\"id > /tmp/planted\")' $f; done; "
            "printf 'passwd: planted files\\n' > /etc/nsswitch.conf; echo done"
        )
        assert "done" in run(fresh, plant)
        fresh.files.write("/tmp/a", "x")
        fresh.files.write_files([{"path": "/tmp/b", "data": b"y" * 100_000}] * 1)
        assert fresh.files.read("/tmp/b", format="bytes")
        fresh.files.list("/tmp", depth=3)
        address = {"E2b-Sandbox-Id": fresh.sandbox_id, "E2b-Sandbox-Port": "49983"}
        token = fresh._envd_access_token or ""
        archive = httpx.get(
            f"{service.url}/files/archive",
            params={"path": "/tmp"},
            headers={**address, "X-Access-Token": token},
            timeout=30,
        )
        assert archive.status_code == 200
        gateway = {**address, "E2b-Sandbox-Port": "49999"}
        answer = httpx.post(
            f"{service.url}/execute", json={"code": "1 + 1"}, headers=gateway, timeout=30
        )
        assert '"text"' in answer.text
        assert not fresh.files.exists("/tmp/planted")
    finally:
        fresh.kill()


def test_the_supervisors_place_cannot_be_moved_or_read(box: Sandbox) -> None:
    assert any(word in run(box, "ls /run/code-interpreter") for word in REFUSED)
    assert "busy" in run(box, "mv /run/code-interpreter /run/moved")
    assert run(box, "ls /run | grep moved || echo none") == "none\n"


def test_kernels_hold_no_more_rights_and_descriptors_than_commands(service: Service) -> None:
    fresh = Sandbox.create(timeout=120, **service.options)
    try:
        answer = httpx.post(
            f"{service.url}/execute",
            json={
                "code": "import os\n"
                "print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')"
                " if os.path.exists(f'/proc/self/fd/{n}')])\n"
                "print(open('/proc/self/status').read())"
            },
            headers={"E2b-Sandbox-Id": fresh.sandbox_id, "E2b-Sandbox-Port": "49999"},
            timeout=30,
        ).text
        assert "box.log" not in answer
        assert "CapEff:\\t00000000a00405fb" in answer
        assert "Seccomp:\\t2" in answer
    finally:
        fresh.kill()


def test_only_root_of_the_box_holds_capabilities(box: Sandbox) -> None:
    """Also of the processes that start commands, and live on between them."""
    run(box, "true", "user")
    held = run(box, "grep -h -E '^(Uid|Cap(Prm|Eff|Amb))' /proc/[0-9]*/status", "user").split()
    numbers = [held[n : n + 11] for n in range(0, len(held), 11)]
    of_user = [fields for fields in numbers if fields[1] == "1000"]
    assert len(of_user) >= 2, "the shell, and what started it"
    for fields in of_user:
        assert [fields[n] for n in (6, 8, 10)] == ["0" * 16] * 3, fields


def test_supervisors_have_no_port(service: Service) -> None:
    fresh = Sandbox.create(timeout=60, **service.options)
    try:
        listening = run(fresh, "cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\"'")
        assert listening == ""
        assert "gateway.sock" not in run(fresh, "cat /proc/net/unix")
    finally:
        fresh.kill()


# --- the machine ------------------------------------------------------------------------


def test_nothing_of_what_goes_on_outside_is_shown(box: Sandbox) -> None:
    for path in ("/proc/interrupts", "/proc/key-users", "/proc/keys", "/proc/timer_list"):
        assert run(box, f"cat {path}").strip() == "" or "No such" in run(box, f"cat {path}")
    for path in ("/proc/pressure", "/sys/kernel", "/sys/fs", "/sys/block", "/sys/firmware"):
        assert run(box, f"ls {path}") == ""


def test_no_disk_of_the_machine_is_named(box: Sandbox) -> None:
    """Each box's is a loop device: what one reads from names the box, and its host's files."""
    assert list(Path("/sys/devices/virtual/block").iterdir())
    places = ("/sys/class/block", "/sys/dev/block", "/sys/devices/virtual/block", "/sys/block")
    for path in places:
        assert run(box, f"ls -A {path}", user="root") == ""
    assert run(box, "find /sys -name backing_file", user="root") == ""


def test_user_code_is_the_first_to_go_when_memory_runs_out(box: Sandbox) -> None:
    assert run(box, "cat /proc/self/oom_score_adj") == "500\n"
    for score in (-1, -900, -1000):
        assert "denied" in run(box, f"echo {score} > /proc/self/oom_score_adj")


def test_no_core_dumps(box: Sandbox) -> None:
    assert run(box, "ulimit -Hc") == "0\n"


def test_a_supervisor_that_dies_comes_back_and_lets_nobody_else_in(service: Service) -> None:
    """Killed from outside, as only the host can; inside a box nobody may."""
    box = Sandbox.create(timeout=120, **service.options)
    try:
        supervisors = _supervisors(service)
        assert supervisors
        for process in supervisors:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + 20
        while not box.is_running():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert box.commands.run("echo back").stdout == "back\n"
        headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49983"}
        answer = httpx.post(f"{service.url}/process.Process/List", headers=headers, json={})
        assert answer.status_code == 401
    finally:
        box.kill()


def _supervisors(service: Service) -> list[psutil.Process]:
    """envd and gateway of every box: children of an init, under its uid."""
    found = []
    for child in psutil.Process(service.process.pid).children():
        for init in child.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # a box that ends meanwhile
                found += [process for process in init.children() if process.uids() == init.uids()]
    return found
