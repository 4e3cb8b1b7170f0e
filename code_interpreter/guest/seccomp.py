"""The system calls that nothing in a sandbox may make: a seccomp filter, by table.

Calls that are not listed are allowed; what is listed has been a way out of containers, or
reaches things that are not the sandbox's. Of sockets the families are listed that may be
made, as each of the others loads a kernel module that hardly anybody looks at. ``clone3``
answers ENOSYS, so that the C library falls back to ``clone``, whose flags a filter can
read. See seccomp(2) for the formats.

Supervisors carry the same filters as user code, but for one call: they may enter a user
namespace that they hold a descriptor of, to start user code there.

There are two filters, because the kernel logs all that a filter refuses or nothing of it.
What it logs is kept short by the kernel itself (``kernel.printk_ratelimit``).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Collection, Iterable

from code_interpreter.guest import syscalls

# name: (x86_64, aarch64); None where the architecture has no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "vhangup": (153, 58),
}
MISSING: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
}
ADDRESS_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
SOCK_PACKET = 10
"""The type by which ``AF_INET`` once meant packets, and still does (packet(7))."""
NETLINK_PROTOCOLS = {"NETLINK_ROUTE": 0, "NETLINK_SOCK_DIAG": 4}
"""What the C library, `ip` and `ss` ask."""
REFUSED_TERMINAL_REQUESTS = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C}
NEW_NAMESPACE_FLAGS = 0x7E020000
"""Every CLONE_NEW* flag of clone(2)."""

_ARCHITECTURES = {
    "x86_64": (
        0,
        0xC000003E,
        {"clone": 56, "setns": 308, "socket": 41, "socketpair": 53, "ioctl": 16},
    ),
    "aarch64": (
        1,
        0xC00000B7,
        {"clone": 220, "setns": 268, "socket": 198, "socketpair": 199, "ioctl": 29},
    ),
}
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_AND = 0x54
_SOCKET_TYPE_MASK = 0xF
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT = 0x40000000
_Instruction = tuple[int, int, int, int]


def _argument(number: int) -> _Instruction:
    """Load the low word of a system call's argument."""
    return (_LOAD_WORD, 0, 0, _ARGUMENTS + 8 * number)


def _refuse(test: int, values: Iterable[int], code: int) -> list[_Instruction]:
    """If what was loaded passes the test with one of the values."""
    return [step for value in values for step in ((test, 0, 1, value), (_RETURN, 0, 0, code))]


def _refuse_all_but(values: Collection[int], code: int) -> list[_Instruction]:
    """Go on if what was loaded is one of the values."""
    ways = len(values)
    tests = [(_JUMP_IF_EQUAL, ways - n, 0, value) for n, value in enumerate(values)]
    return [*tests, (_RETURN, 0, 0, code)]


def _for_call(number: int, checks: list[_Instruction]) -> list[_Instruction]:
    """Checks of one system call's arguments; it is allowed if none refuses."""
    body = [*checks, (_RETURN, 0, 0, _ALLOW)]
    return [(_JUMP_IF_EQUAL, 0, len(body), number), *body]


def _check_family(call: int) -> list[_Instruction]:
    protocols = _refuse_all_but(NETLINK_PROTOCOLS.values(), _ERRNO | errno.EPROTONOSUPPORT)
    netlink = [_argument(2), *protocols]
    return _for_call(
        call,
        [
            _argument(1),
            (_AND, 0, 0, _SOCKET_TYPE_MASK),
            *_refuse(_JUMP_IF_EQUAL, [SOCK_PACKET], _ERRNO | errno.EPERM),
            _argument(0),
            *_refuse_all_but(ADDRESS_FAMILIES.values(), _ERRNO | errno.EPERM),
            (_JUMP_IF_EQUAL, 0, len(netlink), ADDRESS_FAMILIES["AF_NETLINK"]),
            *netlink,
        ],
    )


def compile_silent(machine: str) -> bytes:
    """What programs try by habit, and go on without: foreign calls, those that are said to be
    missing, and families of sockets. As an array of ``struct sock_filter``.

    Raises KeyError for machines that are not known, as `compile_logged` does.
    """
    column, architecture, numbers = _ARCHITECTURES[machine]
    program: list[_Instruction] = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_LOAD_WORD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += _refuse(_JUMP_IF_AT_LEAST, [_X32_BIT], _ERRNO | errno.ENOSYS)
    program += _refuse(_JUMP_IF_EQUAL, _listed(MISSING, column), _ERRNO | errno.ENOSYS)
    for name in ("socket", "socketpair"):
        program += _check_family(numbers[name])
    return _packed(program)


def compile_logged(machine: str, *, supervisor: bool) -> bytes:
    """What no program has any business with: the kernel notes each attempt in its log."""
    column, architecture, numbers = _ARCHITECTURES[machine]
    program: list[_Instruction] = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _ALLOW),  # the other filter refuses it
        (_LOAD_WORD, 0, 0, _NUMBER),
    ]
    program += _refuse(_JUMP_IF_EQUAL, _listed(REFUSED, column), _ERRNO | errno.EPERM)
    namespaces = _refuse(_JUMP_IF_SET, [NEW_NAMESPACE_FLAGS], _ERRNO | errno.EPERM)
    program += _for_call(numbers["clone"], [_argument(0), *namespaces])
    enterable = [syscalls.CLONE_NEWUSER] if supervisor else []
    kinds = _refuse_all_but(enterable, _ERRNO | errno.EPERM)
    program += _for_call(numbers["setns"], [_argument(1), *kinds])
    requests = _refuse(_JUMP_IF_EQUAL, REFUSED_TERMINAL_REQUESTS.values(), _ERRNO | errno.EPERM)
    program += _for_call(numbers["ioctl"], [_argument(1), *requests])
    return _packed(program)


def _listed(table: dict[str, tuple[int | None, int | None]], column: int) -> list[int]:
    return [call for columns in table.values() if (call := columns[column]) is not None]


def _packed(program: list[_Instruction]) -> bytes:
    """What none of it refuses is allowed."""
    whole = [*program, (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in whole)


def is_available() -> bool:
    return platform.machine() in _ARCHITECTURES


def install(*, supervisor: bool = False) -> None:
    """For this process and all below it, for good. Needs CAP_SYS_ADMIN in its user namespace."""
    if not is_available():
        return
    for program, logged in ((_SILENT, False), (_LOGGED[supervisor], True)):
        # struct sock_fprog: number of instructions, padding, pointer
        instructions = len(program) // 8
        syscalls.set_seccomp_filter(
            struct.pack("HxxxxxxP", instructions, ctypes.addressof(program)), logged=logged
        )


def _kept(program: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(program, len(program))


if is_available():
    _SILENT = _kept(compile_silent(platform.machine()))
    _LOGGED = {
        each: _kept(compile_logged(platform.machine(), supervisor=each)) for each in (True, False)
    }
    """By whether it is for supervisors."""
