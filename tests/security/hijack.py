"""What somebody could do who had taken over a supervisor: run as a program, from the host.

``python -m tests.security.hijack PID`` enters every namespace of the supervisor PID, takes
on its ids, capabilities and filter, and tries its luck. Prints JSON: attack → "ok" or the
error's name.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from code_interpreter.guest import seccomp, syscalls
from code_interpreter.protocol.boxes import SUPERVISOR_ID

_KINDS = {
    "mnt": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "net": syscalls.CLONE_NEWNET,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "user": syscalls.CLONE_NEWUSER,
}
_libc = ctypes.CDLL(None, use_errno=True)


def capabilities(pid: int) -> set[int]:
    """Those that a process may use."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^CapPrm:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert found is not None
    mask = int(found[1], 16)
    return {number for number in range(64) if mask >> number & 1}


def become(pid: int) -> None:
    """As the supervisor ``pid`` is; returns in a new process."""
    held = capabilities(pid)
    places = {name: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in _KINDS}
    for name, descriptor in places.items():
        syscalls.setns(descriptor, _KINDS[name])
        os.close(descriptor)
    child = os.fork()  # of the new pid namespace
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.chdir("/")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.keep_capabilities_as(SUPERVISOR_ID, SUPERVISOR_ID)
    syscalls.set_filesystem_ids(0, 0)
    seccomp.install(supervisor=True)
    syscalls.limit_capabilities(held, inheritable=False)


def _call(number: int, *arguments: int | bytes) -> None:
    result = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


def _take_capability() -> None:
    words = syscalls.get_capabilities()
    words[0] |= 1 << 21
    words[1] |= 1 << 21
    syscalls.set_capabilities(words)


def _bring_loopback_down() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh22x", b"lo", 0))


ATTACKS: dict[str, Callable[[], object]] = {
    "mount": lambda: syscalls.mount("none", "/mnt", "tmpfs"),
    "mount of control groups": lambda: syscalls.mount("none", "/mnt", "cgroup2"),
    "bind mount": lambda: syscalls.bind("/etc", "/mnt"),
    "unmount": lambda: syscalls.unmount("/proc/sys"),
    "detached mount": lambda: syscalls.id_mapped_clone("/", 0),
    "other root": lambda: syscalls.pivot_root("/mnt", "/mnt"),
    "chroot": lambda: os.chroot("/mnt"),
    "new user namespace": lambda: syscalls.unshare(syscalls.CLONE_NEWUSER),
    "new mount namespace": lambda: syscalls.unshare(syscalls.CLONE_NEWNS),
    "mount namespace of init": lambda: syscalls.setns(
        os.open("/proc/self/ns/mnt", os.O_RDONLY), syscalls.CLONE_NEWNS
    ),
    "device": lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0)),
    "memory of the machine": lambda: os.open("/dev/mem", os.O_RDONLY),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "network down": _bring_loopback_down,
    "host name": lambda: syscalls.set_hostname("other"),
    "core pattern": lambda: _write("/proc/sys/kernel/core_pattern", "|/tmp/x"),
    "sysrq": lambda: _write("/proc/sysrq-trigger", "h"),
    "kernel setting": lambda: _write("/proc/sys/user/max_user_namespaces", "1000000"),
    "limit of the control group": lambda: _write(_a_limit(), "-1"),
    "trace init": lambda: _call(101, 16, 1, 0, 0),
    "memory of init": lambda: os.open("/proc/1/mem", os.O_RDWR),
    "descriptors of init": lambda: list(Path("/proc/1/fd").iterdir()),
    "root": lambda: os.setresuid(0, 0, 0),
    "capability": _take_capability,
    "file by handle": lambda: _call(304, -100, b"\0" * 128, 0),
    "kernel program": lambda: _call(321, 0, b"\0" * 128, 128),
    "kernel module": lambda: _call(175, b"", 0, b""),
    "keyring": lambda: _call(250, 0, -3, 0),
    "performance counters": lambda: _call(298, b"\0" * 128, 0, -1, -1, 0),
    "ring": lambda: _call(425, 1, b"\0" * 256),
    "descriptor of init": lambda: _call(438, os.pidfd_open(1), 0, 0),
    "clock": lambda: _call(227, 0, b"\0" * 16),
    "files of the host": lambda: list(Path("/run/host").iterdir()),
}
"""Numbers are those of x86_64."""


def _a_limit() -> str:
    groups = Path("/run/code-interpreter/cgroup")
    names = ("pids.max", "memory.max", "memory.limit_in_bytes")
    found = [path for name in names for path in groups.glob(f"*/{name}")]
    return str(found[0])


def _try(attack: Callable[[], object]) -> str:
    try:
        attack()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def main() -> None:
    become(int(sys.argv[1]))
    print(json.dumps({name: _try(attack) for name, attack in ATTACKS.items()}), flush=True)


if __name__ == "__main__":
    main()
