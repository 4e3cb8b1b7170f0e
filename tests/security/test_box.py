"""Attacks from inside a sandbox on what is around it, through E2B's unmodified client."""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from e2b import CommandExitException, Sandbox

from code_interpreter.guest.box import MOST_TERMINALS
from tests.service import Service, cache_directory

pytestmark = pytest.mark.security
REFUSED = ("Operation not permitted", "Permission denied", "Read-only file system", "denied")


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        yield sandbox
    finally:
        sandbox.kill()


def _run(box: Sandbox, command: str, user: str = "root") -> str:
    """Output of both streams, whatever the exit code."""
    try:
        result = box.commands.run(command, user=user, timeout=30)
    except CommandExitException as error:
        return f"{error.stdout}{error.stderr}"
    return f"{result.stdout}{result.stderr}"


def _python(box: Sandbox, source: str, user: str = "root") -> str:
    box.files.write("/tmp/probe.py", source)
    return _run(box, "python3 /tmp/probe.py", user)


# --- processes --------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["user", "root"])
def test_supervisors_cannot_be_signalled(box: Sandbox, user: str) -> None:
    # Their uid does not exist in the user namespace of user code, so it shows as nobody's.
    before = _run(box, "ps -eo pid,uid,lstart | awk '$2 == 65534'")
    pids = [line.split()[0] for line in before.splitlines()]
    assert len(pids) >= 3, "init, envd and the gateway"
    for pid in pids:
        assert "not permitted" in _run(box, f"kill -9 {pid}", user)
    assert _run(box, "ps -eo pid,uid,lstart | awk '$2 == 65534'") == before


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "root", "cwd", "fd"])
def test_supervisors_cannot_be_looked_into(box: Sandbox, file: str) -> None:
    probe = "cat" if file in ("environ", "mem", "maps") else "ls"
    output = _run(box, f"{probe} /proc/1/{file} | head -c 100")
    assert any(word in output for word in REFUSED), output


def test_supervisors_cannot_be_traced(box: Sandbox) -> None:
    source = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0), ctypes.get_errno())
"""
    assert _python(box, source) == "-1 1\n"


def test_only_the_boxes_processes_are_seen(box: Sandbox) -> None:
    commands = _run(box, "ps -eo args")
    assert str(os.getpid()) not in _run(box, "ps -eo pid").split() or os.getpid() < 1000
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
    inside = _run(box, f"cat {path} 2>&1 || ls {path}")
    if path == "/etc/shadow":
        assert Path(path).read_text() != inside
    else:
        assert "No such file" in inside


def test_secrets_of_the_host_are_nowhere(box: Sandbox, service: Service) -> None:
    key = service.key
    assert key not in _run(
        box, "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' ' '"
    )
    places = "/etc /opt/*/code_interpreter /opt/*/kernels /run /tmp /home /root /usr/local/etc /var"
    found = _run(box, f"grep -rsl {key} {places} 2>/dev/null")
    assert found == ""


def test_paths_of_the_host_are_not_shown(box: Sandbox, service: Service) -> None:
    shown = _run(box, "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; cat /proc/self/mountinfo")
    checkout = Path(__file__).resolve().parents[2]
    for path in (service.data, cache_directory(), checkout, Path(sys.base_prefix)):
        assert f"{path}/" not in shown
    for line in Path("/proc/mounts").read_text().splitlines():
        disk = line.split()[0]
        assert not disk.startswith("/dev/") or disk not in shown


def test_of_the_hosts_python_only_what_runs_programs_is_shown(box: Sandbox) -> None:
    if "No such file" in _run(box, "ls /opt/python/bin"):
        pytest.skip("the host's Python is of /usr, which boxes share")
    assert set(_run(box, "ls /opt/python").split()) == {"bin", "include", "lib"}
    programs = _run(box, "ls /opt/python/bin").split()
    assert all(name.startswith("python") for name in programs), programs
    packages = _run(box, "ls /opt/python/lib/python3* /opt/code-interpreter/stdlib")
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
    output = _run(box, f"echo x > {path}")
    assert any(word in output for word in (*REFUSED, "No such file")), output


def test_what_is_shown_of_the_host_is_mounted_read_only(box: Sandbox) -> None:
    """Whatever its owner and its mode are out there."""
    mounts = [line.split() for line in _run(box, "cat /proc/self/mountinfo").splitlines()]
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
    _run(box, "touch /usr/bin/planted /usr/local/bin/planted /etc/planted")
    other = Sandbox.create(timeout=60, **service.options)
    try:
        assert "planted" not in _run(other, "ls /usr/bin /usr/local/bin /etc")
        assert not Path("/usr/bin/planted").exists()
    finally:
        other.kill()


def test_descriptors_are_the_standard_ones(box: Sandbox) -> None:
    assert _run(box, "ls /proc/self/fd").split() == ["0", "1", "2", "3"], "3 is ls itself"


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
    output = _run(box, command)
    words = (*REFUSED, "must be", "failed")
    assert any(word in output for word in words), output


@pytest.mark.parametrize("device", ["mem", "kmem", "kvm", "fuse", "vda", "sda", "loop0", "kmsg"])
def test_devices_of_the_machine_are_absent(box: Sandbox, device: str) -> None:
    assert "No such file" in _run(box, f"ls /dev/{device}")


def test_sudo_is_root_of_the_box_only(box: Sandbox) -> None:
    if "not found" in _run(box, "sudo -n true", "user"):
        pytest.skip("this machine has no sudo for its sandboxes (apt-get install sudo)")
    assert _run(box, "sudo -n id -u", "user") == "0\n"
    assert "not permitted" in _run(box, "sudo -n kill -9 1", "user")
    assert any(word in _run(box, "sudo -n mount -t tmpfs none /mnt", "user") for word in REFUSED)


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
        assert "done" in _run(fresh, plant)
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
    assert any(word in _run(box, "ls /run/code-interpreter") for word in REFUSED)
    assert "busy" in _run(box, "mv /run/code-interpreter /run/moved")
    assert _run(box, "ls /run | grep moved || echo none") == "none\n"


def test_names_of_other_boxes_are_not_shown(box: Sandbox, service: Service) -> None:
    shown = _run(box, "cat /sys/block/*/loop/backing_file /proc/self/mountinfo /proc/*/cmdline")
    assert box.sandbox_id not in shown
    assert "disk.img" not in shown


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
    _run(box, "true", "user")
    held = _run(box, "grep -h -E '^(Uid|Cap(Prm|Eff|Amb))' /proc/[0-9]*/status", "user").split()
    numbers = [held[n : n + 11] for n in range(0, len(held), 11)]
    of_user = [fields for fields in numbers if fields[1] == "1000"]
    assert len(of_user) >= 2, "the shell, and what started it"
    for fields in of_user:
        assert [fields[n] for n in (6, 8, 10)] == ["0" * 16] * 3, fields


# --- neighbours -------------------------------------------------------------------------


def test_neighbours_do_not_meet(box: Sandbox, service: Service) -> None:
    other = Sandbox.create(timeout=120, **service.options)
    try:
        box.files.write("/tmp/mine", "secret")
        box.commands.run("python3 -m http.server 8123", background=True, timeout=30)
        _python(box, "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0box')")
        assert not other.files.exists("/tmp/mine")
        assert "Failed to connect" in _run(other, "curl -sS -m 3 http://127.0.0.1:8123/")
        assert "box" not in _run(other, "cat /proc/net/unix")
        assert _run(other, "ipcs -m | grep -c 0x") == "0\n"
    finally:
        other.kill()


TAKE = """
import ctypes, mmap, os, socket, time
libc = ctypes.CDLL(None)
open("/dev/shm/meeting", "w").write("secret")
open("/var/tmp/meeting", "w").write("secret")
segment = libc.shmget(0x43490002, 4096, 0o1666)
assert segment >= 0 and libc.semget(0x43490002, 1, 0o1666) >= 0
assert libc.msgget(0x43490002, 0o1666) >= 0
servers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for server, name in zip(servers, ("\\0meeting", "/tmp/meeting.sock")):
    server.bind(name)
    server.listen()
servers += [socket.create_server(("", 8124)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
servers[-1].bind(("", 8124))
print("there", flush=True)
time.sleep(300)
"""
MEET = """
import ctypes, glob, os, socket
libc, met = ctypes.CDLL(None), []
met += [path for path in ("/dev/shm/meeting", "/var/tmp/meeting") if os.path.exists(path)]
met += [name for name in ("shmget", "semget", "msgget")
        if getattr(libc, name)(0x43490002, *((4096, 0) if name == "shmget" else
                               (1, 0) if name == "semget" else (0,))) >= 0]
addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
addresses |= {"127.0.0.1", "127.0.0.2", "::1"}
places = [(socket.AF_UNIX, name) for name in ("\\0meeting", "/tmp/meeting.sock")]
places += [(socket.AF_INET6 if ":" in each else socket.AF_INET, (each, 8124)) for each in addresses]
for family, address in places:
    try:
        with socket.socket(family) as peer:
            peer.settimeout(2)
            peer.connect(address)
            met.append(str(address))
    except OSError:
        pass
met += [name for _, name in socket.if_nameindex() if name != "lo"]
for path in glob.glob("/proc/[0-9]*/cmdline"):
    if b"take.py" in open(path, "rb").read():
        met.append(path)
for pid in range(2, 3000):
    if pid != os.getpid() and not os.path.exists(f"/proc/{pid}"):
        try:
            os.kill(pid, 0)
            met.append(f"signal to {pid}")
        except ProcessLookupError:
            pass
try:
    met += [line for line in open("/proc/net/nf_conntrack") if "8124" in line]
except OSError:
    pass
print(met)
"""


def test_neighbours_share_nothing(box: Sandbox, service: Service) -> None:
    """Neither files, memory, queues, sockets, addresses, processes nor any namespace."""
    namespaces = "cd /proc/self/ns && readlink cgroup ipc mnt net pid user uts"
    box.files.write("/tmp/take.py", TAKE)
    box.files.write("/tmp/meet.py", MEET)
    taking = box.commands.run("python3 /tmp/take.py", user="root", background=True, timeout=0)
    deadline = time.monotonic() + 20
    there = {"/dev/shm/meeting", "shmget", "semget", "msgget", "/tmp/meeting.sock"}
    while not there <= set(met := ast.literal_eval(_run(box, "python3 /tmp/meet.py"))):
        assert time.monotonic() < deadline, met
    other = Sandbox.create(timeout=120, **service.options)
    try:
        for user in ("root", "user"):
            assert _python(other, MEET, user) == "[]\n"
        of_one, of_other = (_run(each, namespaces).split() for each in (box, other))
        assert len(of_one) == 7
        assert not set(of_one) & set(of_other)
    finally:
        other.kill()
        taking.kill()


def test_supervisors_have_no_port(service: Service) -> None:
    fresh = Sandbox.create(timeout=60, **service.options)
    try:
        listening = _run(fresh, "cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\"'")
        assert listening == ""
        assert "gateway.sock" not in _run(fresh, "cat /proc/net/unix")
    finally:
        fresh.kill()


# --- exhaustion -------------------------------------------------------------------------


def test_one_box_does_not_take_every_inotify_instance(box: Sandbox, service: Service) -> None:
    source = """
import ctypes
libc = ctypes.CDLL(None)
print(sum(libc.inotify_init1(0) >= 0 for _ in range(1000)))
"""
    assert int(_python(box, source)) <= 256
    other = Sandbox.create(timeout=60, **service.options)
    try:
        other.files.make_dir("/home/user/watched")
        other.files.watch_dir("/home/user/watched").stop()
    finally:
        other.kill()


@pytest.mark.parametrize("user", ["user", "root"])
def test_one_box_does_not_take_every_terminal(box: Sandbox, service: Service, user: str) -> None:
    """The machine has one supply of them (pty(7))."""
    probe = (
        "import os\nopened = []\ntry:\n"
        "    while len(opened) < 1000: opened.append(os.openpty())\n"
        "except OSError as error: print(error)\nprint(len(opened))"
    )
    reason, count = _python(box, probe, user).splitlines()
    assert "No space left" in reason
    assert 100 < int(count) <= MOST_TERMINALS
    assert _run(box, "script -qec 'echo there' /dev/null").split() == ["there"]


def test_fork_bomb_stays_inside(service: Service) -> None:
    bomber = Sandbox.create(timeout=120, **service.options)
    try:
        bomb = "while True:\n    try:\n        import os; os.fork()\n    except OSError: pass\n"
        bomber.files.write("/tmp/bomb.py", bomb)
        bomber.commands.run("python3 /tmp/bomb.py", background=True, timeout=60)
        time.sleep(2)
        waits = []
        for _ in range(20):
            start = time.monotonic()
            assert httpx.get(f"{service.url}/health", timeout=10).status_code == 204
            waits.append(time.monotonic() - start)
        assert sorted(waits)[-2] < 2, "the host answers while the bomb goes off"
    finally:
        assert bomber.kill()


def test_memory_bomb_ends_the_bomber_alone(service: Service) -> None:
    box = Sandbox.create(timeout=120, **service.options)
    try:
        source = "data = []\nwhile True: data.append(bytearray(50_000_000))\n"
        box.files.write("/tmp/bomb.py", source)
        with pytest.raises(CommandExitException) as caught:
            box.commands.run("exec python3 /tmp/bomb.py", timeout=60)
        assert caught.value.error == "signal: killed"
        assert box.is_running()
        assert box.commands.run("echo alive").stdout == "alive\n"
    finally:
        box.kill()


def test_nothing_of_what_goes_on_outside_is_shown(box: Sandbox) -> None:
    for path in ("/proc/interrupts", "/proc/key-users", "/proc/keys", "/proc/timer_list"):
        assert _run(box, f"cat {path}").strip() == "" or "No such" in _run(box, f"cat {path}")
    for path in ("/proc/pressure", "/sys/kernel", "/sys/fs", "/sys/block", "/sys/firmware"):
        assert _run(box, f"ls {path}") == ""


def test_no_disk_of_the_machine_is_named(box: Sandbox) -> None:
    """Each box's is a loop device: what one reads from names the box, and its host's files."""
    assert list(Path("/sys/devices/virtual/block").iterdir())
    places = ("/sys/class/block", "/sys/dev/block", "/sys/devices/virtual/block", "/sys/block")
    for path in places:
        assert _run(box, f"ls -A {path}", user="root") == ""
    assert _run(box, "find /sys -name backing_file", user="root") == ""


def test_user_code_is_the_first_to_go_when_memory_runs_out(box: Sandbox) -> None:
    assert _run(box, "cat /proc/self/oom_score_adj") == "500\n"
    for score in (-1, -900, -1000):
        assert "denied" in _run(box, f"echo {score} > /proc/self/oom_score_adj")


def test_no_core_dumps(box: Sandbox) -> None:
    assert _run(box, "ulimit -Hc") == "0\n"


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
