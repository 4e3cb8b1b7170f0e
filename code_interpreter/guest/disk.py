"""A disk of a fixed size for a box: an ext4 image on a loop device (loop(4)).

The image is sparse, so it takes the space that is used; a full one gives ENOSPC inside
the box and leaves the host's disk alone. Needs root on the host.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from code_interpreter.guest import syscalls

_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_AUTOCLEAR = 4
_DIRECT_IO = 16
"""Past the host's page cache, which would keep each block a second time, and write it again;
where the file system of the image cannot, the kernel goes without."""
_ATTEMPTS = 50
_NOATIME = 1024


def copy_sparse(source: str, target: str) -> None:
    """Copy a file and leave its holes holes."""
    private = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(source, "rb") as reader, open(private, "wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        offset = 0
        while (start := _next_data(reader.fileno(), offset)) is not None:
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            while start < end:
                start += os.copy_file_range(
                    reader.fileno(), writer.fileno(), end - start, start, start
                )
            offset = end


def _next_data(descriptor: int, offset: int) -> int | None:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def mount_image(image: str, target: str) -> None:
    """Mount an ext4 image; its loop device goes away with the last mount of it."""
    os.makedirs(target, exist_ok=True)
    device = _attach(image)
    try:
        flags = syscalls.MS_NODEV | syscalls.MS_NOSUID | _NOATIME
        syscalls.mount(os.readlink(f"/proc/self/fd/{device}"), target, "ext4", flags, "discard")
    finally:
        os.close(device)


def _attach(image: str) -> int:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            number = fcntl.ioctl(control, _GET_FREE)
            device = _open_loop(number)
            try:
                fcntl.ioctl(device, _CONFIGURE, _configuration(backing))
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # somebody else was faster
                    raise
            else:
                return device
        raise OSError(errno.EBUSY, "no free loop device", image)
    finally:
        os.close(backing)
        os.close(control)


def _open_loop(number: int) -> int:
    path = f"/dev/loop{number}"
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # a container's /dev does not follow the kernel
        with open(f"/sys/block/loop{number}/dev") as file:
            major, minor = map(int, file.read().split(":"))
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _configuration(backing: int) -> bytes:
    """``struct loop_config`` of <linux/loop.h>."""
    information = bytearray(232)
    struct.pack_into("I", information, 52, _AUTOCLEAR | _DIRECT_IO)
    return struct.pack("II", backing, 4096) + bytes(information) + bytes(64)
