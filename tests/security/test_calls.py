"""System calls that have been ways out of containers, made for real in a sandbox."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Iterator

import pytest
from e2b import Sandbox

from tests.service import Service

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64"),
]
CALLS: dict[str, tuple[int, ...]] = {
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "fsopen": (430, 0, 0),
    "fsmount": (432, -1, 0, 0),
    "open_tree": (428, -100, 0, 1),
    "move_mount": (429, -1, 0, -1, 0, 0),
    "mount_setattr": (442, -1, 0, 0, 0, 0),
    "unshare of a user namespace": (272, 0x10000000),
    "unshare of a mount namespace": (272, 0x00020000),
    "unshare of a network": (272, 0x40000000),
    "clone of a user namespace": (56, 0x10000011, 0, 0, 0, 0),
    "clone3": (435, 0, 0),
    "setns": (308, -1, 0x10000000),
    "ptrace of init": (101, 16, 1, 0, 0),
    "process_vm_readv of init": (310, 1, 0, 0, 0, 0, 0),
    "process_vm_writev of init": (311, 1, 0, 0, 0, 0, 0),
    "pidfd_getfd": (438, -1, 0, 0),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "userfaultfd": (323, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "keyctl": (250, 0, -3, 0),
    "add_key": (248, 0, 0, 0, 0, -3),
    "request_key": (249, 0, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "kexec_file_load": (320, -1, -1, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, -1, 0, 0),
    "delete_module": (176, 0, 0),
    "open_by_handle_at": (304, -100, 0, 0),
    "fanotify_init": (300, 0, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "swapon": (167, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "acct": (163, 0),
    "syslog": (103, 3, 0, 0),
    "settimeofday": (164, 0, 0),
    "clock_settime": (227, 0, 0),
    "iopl": (172, 3),
    "ioperm": (173, 0, 1, 1),
    "modify_ldt": (154, 0, 0, 0),
    "personality of 32 bits by x32": (0x40000000 | 135, 0),
    "raw socket": (41, 2, 3, 1),
    "raw socket of IPv6": (41, 10, 3, 58),
    "packet socket by its type": (41, 2, 10, 0x0300),
    "typing into a terminal": (16, 0, 0x5412, 0),
}
FAMILIES = {"unix": 1, "IPv4": 2, "IPv6": 10, "netlink": 16}
"""The families of sockets that there are; address_families(7) has the numbers of all others:
packets are 17, IPsec keys 15, bluetooth 31, cryptography 38, the virtual machine's host 40."""
HIGHEST_FAMILY = 46
CALLS |= {
    f"socket of family {family}, type {kind}": (41, family, kind, 0)
    for family in range(HIGHEST_FAMILY + 3)
    if family not in FAMILIES.values()
    for kind in (1, 2, 3, 5)
}
REFUSED = {errno.EPERM, errno.ENOSYS}
PROBE = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
answers = {}
for name, (number, *arguments) in json.load(open("/tmp/calls.json")).items():
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    answers[name] = ctypes.get_errno() if result < 0 else 0
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        sandbox.files.write("/tmp/calls.json", json.dumps(CALLS))
        sandbox.files.write("/tmp/probe.py", PROBE)
        yield sandbox
    finally:
        sandbox.kill()


@pytest.mark.parametrize("user", ["user", "root"])
def test_each_is_refused(box: Sandbox, user: str) -> None:
    told = box.commands.run("python3 /tmp/probe.py", user=user, timeout=60).stdout
    answers: dict[str, int] = json.loads(told)
    assert answers.keys() == CALLS.keys()
    assert {name: code for name, code in answers.items() if code not in REFUSED} == {}


HABITS = """
import json, os, psutil, shutil, socket, subprocess
socket.create_server(("localhost", 0)).close()
told = {
    "interfaces": [name for _, name in socket.if_nameindex()],
    "addresses": sorted(psutil.net_if_addrs()),
    "localhost": socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4][0],
}
programs = {
    "ip": ["ip", "-brief", "address"],
    "ss": ["ss", "--all"],
    "ifconfig": ["ifconfig", "-a"],
    "node": ["node", "-p", "Object.keys(os.networkInterfaces())"],
    "deno": ["deno", "eval", "console.log(Deno.networkInterfaces()[0].name)"],
    "digest": ["sh", "-c", "echo lo | openssl dgst -sha256 && echo lo | sha256sum"],
}
for name, command in programs.items():
    if shutil.which(command[0]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        told[name] = [done.returncode, done.stdout]
print(json.dumps(told))
"""


def test_what_programs_ask_of_the_network_is_answered(box: Sandbox) -> None:
    """Some try families of sockets one after the other, and go on without those refused."""
    box.files.write("/tmp/habits.py", HABITS)
    told = json.loads(box.commands.run("python3 /tmp/habits.py", timeout=60).stdout)
    assert told.pop("interfaces") == told.pop("addresses") == ["lo"]
    assert told.pop("localhost") == "127.0.0.1"
    assert {name: done for name, done in told.items() if done[0] != 0} == {}
    for name in told.keys() & {"ip", "ifconfig", "node", "deno"}:
        assert "lo" in told[name][1], name


SETUID = """
import os
lines = [line.split() for line in open("/proc/self/status")]
held = {words[0]: words[1] for words in lines if words and words[0].startswith("Cap")}
print(os.geteuid(), held["CapEff:"], held["CapBnd:"])
"""


def test_a_set_user_id_program_gives_root_of_the_box_and_no_more(box: Sandbox) -> None:
    """Neither by its mode, nor by capabilities that root of the box has put on it."""
    box.files.write("/tmp/setuid.py", SETUID)
    script = (
        "cp $(readlink -f $(which python3)) /tmp/suid && chown root /tmp/suid && "
        "chmod 4755 /tmp/suid && cp /tmp/suid /tmp/capable && chmod 755 /tmp/capable && "
        "(setcap all+ep /tmp/capable 2>&1 || true)"
    )
    box.commands.run(script, user="root")
    libraries = "PYTHONHOME=$(python3 -c 'import sys; print(sys.base_prefix)')"
    for program in ("/tmp/suid", "/tmp/capable"):
        done = box.commands.run(f"{libraries} {program} /tmp/setuid.py || true", user="user")
        for line in done.stdout.splitlines():
            effective, bounding = line.split()[1:]
            assert bounding == "00000000a00405fb"
            assert int(effective, 16) & ~0xA00405FB == 0
