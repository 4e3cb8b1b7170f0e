"""openat2(2), which Python has no function for."""

from __future__ import annotations

import ctypes
import errno
import os

RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_NO_MAGICLINKS = 0x02
"""Refuse the links of /proc that lead straight to a file, such as ``/proc/1/root``."""
_NUMBER = 437
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(path: str, flags: int, resolve: int, directory: int = AT_FDCWD) -> int:
    """A descriptor, close-on-exec; relative paths start at an open ``directory``.

    Raises OSError; ENOSYS before Linux 5.6.
    """
    how = _How(flags | os.O_CLOEXEC, 0, resolve)
    while True:
        descriptor = int(
            _libc.syscall(
                ctypes.c_long(_NUMBER),
                ctypes.c_int(directory),
                os.fsencode(path),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
        )
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):
            raise OSError(code, os.strerror(code), path)
