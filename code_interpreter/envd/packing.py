"""A directory as a tar stream, made as it is read: flat memory, whatever is in it."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Generator, Iterator

from code_interpreter.envd.tree import Tree

CHUNK = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def pack(tree: Tree, directory: int) -> Generator[bytes, None, None]:
    """The archive of an open directory; names are relative to it.

    Files, directories and symbolic links (as links); other kinds are left out, and so are
    directories that the kernel makes up. A file that shrinks meanwhile is filled up with
    zeros, as tar(1) does.
    """
    pending = bytearray()
    levels = [_Level(os.dup(directory), "")]
    try:
        while levels:
            name = next(levels[-1].names, None)
            if name is None:
                levels.pop().close()
                continue
            for piece in _entry(tree, levels, name):
                pending += piece
                if len(pending) >= CHUNK:
                    yield bytes(pending)
                    pending.clear()
        yield bytes(pending) + bytes(2 * _BLOCK)
    finally:
        for level in levels:
            level.close()


class _Level:
    """A directory that is being packed; owns its descriptor."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path
        try:
            self.names = iter(sorted(os.listdir(descriptor)))
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        os.close(self.descriptor)


def _entry(tree: Tree, levels: list[_Level], name: str) -> Iterator[bytes]:
    """The header and the contents of one; a directory is gone into next."""
    above, path = levels[-1], levels[-1].path + name
    try:
        status = os.lstat(name, dir_fd=above.descriptor)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=above.descriptor)
            yield _header(path, status, tarfile.SYMTYPE, target)
        elif stat.S_ISDIR(status.st_mode):
            descriptor = os.open(name, _DIRECTORY, dir_fd=above.descriptor)
            if tree.is_closed(descriptor):
                os.close(descriptor)
                return
            levels.append(_Level(descriptor, f"{path}/"))
            yield _header(path, status, tarfile.DIRTYPE)
        elif stat.S_ISREG(status.st_mode):
            descriptor = os.open(name, _FILE, dir_fd=above.descriptor)
            try:
                yield from _file(descriptor, path)
            finally:
                os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # gone, or another thing, since its directory was read


def _header(path: str, status: os.stat_result, kind: bytes, link: str = "", size: int = 0) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.type, entry.linkname, entry.size = kind, link, size
    entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _file(descriptor: int, path: str) -> Iterator[bytes]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return
    yield _header(path, status, tarfile.REGTYPE, size=status.st_size)
    left = status.st_size
    while left and (piece := os.read(descriptor, min(left, CHUNK))):
        left -= len(piece)
        yield piece
    while left:
        piece = bytes(min(left, CHUNK))
        left -= len(piece)
        yield piece
    yield bytes(-status.st_size % _BLOCK)
