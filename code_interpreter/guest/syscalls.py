"""The Linux calls that sandboxes are made of and that Python has no function for.

Numbers are those of the kernel's unified table, the same on every 64-bit architecture from
``open_tree`` (428) on. Every function raises OSError.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import platform
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_IDMAP = 0x00100000
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(platform.machine(), -1)
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}.get(platform.machine(), -1)
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN = 428, 429, 430
_SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_MOUNT_SETATTR = 431, 432, 442

_PR_GET_DUMPABLE = 3
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_LOG = 2
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2

_MADV_POPULATE_WRITE = 23
_MADV_COLLAPSE = 25
_SLEEPER_STACK = 1 << 16
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc_with_gil = ctypes.PyDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def _syscall(number: int, what: str, *arguments: object) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), what)


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def setns(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind), "setns")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def fork_into_namespaces(flags: int) -> int:
    """Fork with the child in new namespaces; as the first process of a new pid namespace too.

    Like ``os.fork``, but the C library does not run its fork handlers: the caller must be
    single-threaded, its libraries' thread pools included.
    """
    sigchld = 17
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid = int(
        _libc_with_gil.syscall(
            ctypes.c_long(_SYS_CLONE), ctypes.c_ulong(flags | sigchld), 0, 0, 0, 0
        )
    )
    if pid == 0:
        api.PyOS_AfterFork_Child()
    else:
        code = ctypes.get_errno()
        api.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(code, os.strerror(code), "clone")
    return pid


def collapse(start: int, size: int) -> bool:
    """Put memory that is in use into huge pages (madvise(2)); whether the kernel has done it."""
    return _advise(start, size, _MADV_COLLAPSE)


def make_writable(start: int, size: int) -> bool:
    """As if somebody wrote to each page, which stays what it is (madvise(2)); whether that went."""
    return _advise(start, size, _MADV_POPULATE_WRITE)


def _advise(start: int, size: int, advice: int) -> bool:
    return bool(_libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), advice) == 0)


@contextlib.contextmanager
def sleeper_in_namespaces(flags: int) -> Iterator[int]:
    """A process that sleeps in new namespaces, and is gone at the end of the block; its pid.

    It shares this process's memory, which makes it cheap: nothing is copied, and all that
    it runs is pause(2).
    """
    with mmap.mmap(-1, _SLEEPER_STACK) as stack:
        start = ctypes.c_char.from_buffer(stack)
        top = ctypes.c_void_p(ctypes.addressof(start) + _SLEEPER_STACK)
        sigchld, shared_memory = 17, 0x100
        kind = ctypes.c_int(flags | shared_memory | sigchld)
        pid = _check(_libc.clone(_libc.pause, top, kind, None), "clone")
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            del start


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None
) -> None:
    result = _libc.mount(
        _text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(data)
    )
    _check(result, f"mount {target}")


def bind(source: str, target: str, *, read_only: bool = False, recursive: bool = False) -> None:
    """Show ``source`` at ``target``. Read-only holds for the top mount alone."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        kept = _locked_flags(target)
        mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def _locked_flags(target: str) -> int:
    """A remount may not clear flags that a less trusted namespace inherited."""
    flags = os.statvfs(target).f_flag
    return flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(_text(target), flags), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    _syscall(_SYS_PIVOT_ROOT, "pivot_root", _text(new_root), _text(put_old))


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def id_mapped_clone(path: str, user_namespace: int) -> int:
    """A detached mount of ``path``, its owners seen through ``user_namespace``."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _syscall(_SYS_OPEN_TREE, f"open_tree {path}", _AT_FDCWD, _text(path), flags)
    attributes = _MountAttributes(set=_MOUNT_ATTR_IDMAP, user_namespace=user_namespace)
    try:
        _syscall(
            _SYS_MOUNT_SETATTR,
            f"mount_setattr {path}",
            tree,
            b"",
            _AT_EMPTY_PATH,
            ctypes.byref(attributes),
            ctypes.sizeof(attributes),
        )
    except OSError:
        os.close(tree)
        raise
    return tree


@dataclass(frozen=True, slots=True)
class Overlay:
    """Directories of an overlay mount, lowest last; read-only without an upper one."""

    lower: tuple[str, ...]
    upper: str | None = None
    work: str | None = None


def overlay_mount(overlay: Overlay, *, user_xattr: bool) -> int:
    """A detached overlay mount, without devices."""
    context = _syscall(_SYS_FSOPEN, "fsopen overlay", b"overlay", 1)
    try:
        options = {
            "source": "overlay",
            "lowerdir": ":".join(overlay.lower),
            "upperdir": overlay.upper,
            "workdir": overlay.work,
        }
        for key, value in options.items():
            if value is not None:
                _configure(context, _FSCONFIG_SET_STRING, key, value)
        if user_xattr:
            _configure(context, _FSCONFIG_SET_FLAG, "userxattr", None)
        _configure(context, _FSCONFIG_CMD_CREATE, None, None)
        return _syscall(_SYS_FSMOUNT, "fsmount", context, 1, MOUNT_ATTR_NODEV)
    finally:
        os.close(context)


def _configure(context: int, command: int, key: str | None, value: str | None) -> None:
    what = f"overlay {key}={value}" if key else "overlay mount"
    _syscall(_SYS_FSCONFIG, what, context, command, _text(key), _text(value), 0)


def attach(mount_descriptor: int, target: str) -> None:
    """Put a detached mount at ``target``."""
    _syscall(
        _SYS_MOVE_MOUNT,
        f"move_mount {target}",
        mount_descriptor,
        b"",
        _AT_FDCWD,
        _text(target),
        _MOVE_MOUNT_F_EMPTY_PATH,
    )


class AsFilesystemUser:
    """Within it, files are made as ``uid``/``gid``; capabilities stay as they are.

    An overlay over id-mapped layers comes out read-only unless its maker is in the range.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self._ids = (uid, gid)

    def __enter__(self) -> None:
        capabilities = get_capabilities()
        self._before = (_libc.setfsuid(self._ids[0]), _libc.setfsgid(self._ids[1]))
        set_capabilities(capabilities)

    def __exit__(self, *_: object) -> None:
        _libc.setfsuid(self._before[0])
        _libc.setfsgid(self._before[1])


_Header = ctypes.c_uint32 * 2
_Data = ctypes.c_uint32 * 6


def get_capabilities() -> list[int]:
    """Six words: effective, permitted, inheritable, twice."""
    data = _Data()
    _check(_libc.capget(_Header(_CAPABILITY_VERSION_3, 0), data), "capget")
    return list(data)


def set_capabilities(words: list[int]) -> None:
    _check(_libc.capset(_Header(_CAPABILITY_VERSION_3, 0), _Data(*words)), "capset")


def limit_capabilities(kept: Collection[int], *, inheritable: bool) -> None:
    """Of this process, for good: no more than ``kept``, what it executes included.

    Without ``inheritable``, what it executes holds none unless it is root's. Needs
    CAP_SETPCAP, unless the others are out of the bounding set already.
    """
    for capability in range(_last_capability() + 1):
        if capability not in kept and _is_bounding(capability):
            _prctl(_PR_CAPBSET_DROP, capability)
    words = get_capabilities()
    allowed = sum(1 << capability for capability in kept)
    for half, mask in ((0, allowed & 0xFFFFFFFF), (3, allowed >> 32)):
        words[half] &= mask
        words[half + 1] &= mask
        words[half + 2] &= mask if inheritable else 0
    set_capabilities(words)


def drop_capabilities() -> None:
    """Of this process, all; what root executes below it may have them again."""
    set_capabilities([0] * 6)


def _is_bounding(capability: int) -> bool:
    return bool(_prctl(_PR_CAPBSET_READ, capability))


@functools.cache
def _last_capability() -> int:
    """The highest that this kernel knows."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def _prctl(option: int, value: int = 0, third: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    result = _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(third), zero, zero)
    return _check(result, f"prctl {option}")


def keep_capabilities_as(uid: int, gid: int) -> None:
    """Change to another uid and keep every capability, also across exec."""
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    words = get_capabilities()
    words[2], words[5] = words[1], words[4]
    set_capabilities(words)
    for capability in range(64):
        if words[1 if capability < 32 else 4] >> (capability % 32) & 1:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def set_filesystem_ids(uid: int, gid: int) -> None:
    """Who owns the files that this process makes; until the next exec or change of uid."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same uid may look into this one."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def is_dumpable() -> bool:
    return bool(_prctl(_PR_GET_DUMPABLE))


def set_seccomp_filter(program: bytes, *, logged: bool) -> None:
    """Install a filter; ``program`` is a ``struct sock_fprog``.

    ``logged``: what it refuses is to be in the kernel's log (seccomp(2)).
    """
    buffer = ctypes.create_string_buffer(program)
    flags = _SECCOMP_FILTER_FLAG_LOG if logged else 0
    _syscall(_SYS_SECCOMP, "seccomp", _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(buffer))


def die_with_parent() -> None:
    """SIGKILL for this process once its parent has died."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_hostname(name: str) -> None:
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")
