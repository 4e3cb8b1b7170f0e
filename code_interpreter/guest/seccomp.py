"""The system calls that user code may not make: a seccomp filter, by table.

Everything not listed is allowed; what is listed has been a way out of containers, or
reaches things that are not the sandbox's. ``clone3`` answers ENOSYS, so that the C library
falls back to ``clone``, whose flags a filter can read. See seccomp(2) for the formats.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

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
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
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
REFUSED_ADDRESS_FAMILIES = {"AF_PACKET": 17, "AF_ALG": 38, "AF_VSOCK": 40}
REFUSED_TERMINAL_REQUESTS = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C}
NEW_NAMESPACE_FLAGS = 0x7E020000
"""Every CLONE_NEW* flag of clone(2)."""

_ARCHITECTURES = {
    "x86_64": (0, 0xC000003E, {"clone": 56, "socket": 41, "ioctl": 16}),
    "aarch64": (1, 0xC00000B7, {"clone": 220, "socket": 198, "ioctl": 29}),
}
_LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT = 0x40000000
_Instruction = tuple[int, int, int, int]


def _refuse_if_equal(value: int, code: int) -> list[_Instruction]:
    return [(_JUMP_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ERRNO | code)]


def _check_argument(
    number: int, argument: int, test: int, values: list[int], code: int
) -> list[_Instruction]:
    """For one system call: refuse if the low word of an argument passes the test."""
    tests: list[_Instruction] = [(_LOAD_WORD, 0, 0, _ARGUMENTS + 8 * argument)]
    for value in values:
        tests += [(test, 0, 1, value), (_RETURN, 0, 0, _ERRNO | code)]
    tests.append((_RETURN, 0, 0, _ALLOW))
    return [(_JUMP_IF_EQUAL, 0, len(tests), number), *tests]


def compile_filter(machine: str) -> bytes:
    """The filter as an array of ``struct sock_filter``. Raises KeyError for other machines."""
    column, architecture, numbers = _ARCHITECTURES[machine]
    program: list[_Instruction] = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_LOAD_WORD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_JUMP_IF_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for table, code in ((REFUSED, errno.EPERM), (MISSING, errno.ENOSYS)):
        for columns in table.values():
            number = columns[column]
            if number is not None:
                program += _refuse_if_equal(number, code)
    families = list(REFUSED_ADDRESS_FAMILIES.values())
    requests = list(REFUSED_TERMINAL_REQUESTS.values())
    equal, bits = _JUMP_IF_EQUAL, _JUMP_IF_SET
    program += _check_argument(numbers["clone"], 0, bits, [NEW_NAMESPACE_FLAGS], errno.EPERM)
    program += _check_argument(numbers["socket"], 0, equal, families, errno.EAFNOSUPPORT)
    program += _check_argument(numbers["ioctl"], 1, equal, requests, errno.EPERM)
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


_filter = compile_filter(platform.machine()) if platform.machine() in _ARCHITECTURES else None
_buffer = ctypes.create_string_buffer(_filter) if _filter is not None else None


def is_available() -> bool:
    return _filter is not None


def install() -> None:
    """For this process and all below it, for good. Needs CAP_SYS_ADMIN in its user namespace."""
    if _filter is None or _buffer is None:
        return
    # struct sock_fprog: number of instructions, padding, pointer
    program = struct.pack("HxxxxxxP", len(_filter) // 8, ctypes.addressof(_buffer))
    syscalls.set_seccomp_filter(program)
