"""A directory as a tar stream, made as it is read: flat memory, whatever is in it."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from code_interpreter.envd.tree import Tree
from code_interpreter.protocol.archives import Excludes, Pieces, contents, gathered, header

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def pack(tree: Tree, directory: int, excludes: Excludes) -> Pieces:
    """The archive of an open directory; names are relative to it.

    Files, directories and symbolic links (as links); other kinds are left out, and so are
    directories that the kernel makes up.
    """
    return gathered(_entries(tree, directory, excludes))


def _entries(tree: Tree, directory: int, excludes: Excludes) -> Pieces:
    levels = [_Level(os.dup(directory), "")]
    try:
        while levels:
            name = next(levels[-1].names, None)
            if name is None:
                levels.pop().close()
            elif not excludes.cover(levels[-1].path + name):
                yield from _entry(tree, levels, name)
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
            yield header(path, status, tarfile.SYMTYPE, target)
        elif stat.S_ISDIR(status.st_mode):
            descriptor = os.open(name, _DIRECTORY, dir_fd=above.descriptor)
            if tree.is_closed(descriptor):
                os.close(descriptor)
                return
            levels.append(_Level(descriptor, f"{path}/"))
            yield header(path, status, tarfile.DIRTYPE)
        elif stat.S_ISREG(status.st_mode):
            descriptor = os.open(name, _FILE, dir_fd=above.descriptor)
            try:
                yield from _file(descriptor, path)
            finally:
                os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # gone, or another thing, since its directory was read


def _file(descriptor: int, path: str) -> Iterator[bytes]:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return
    yield header(path, status, tarfile.REGTYPE, size=status.st_size)
    yield from contents(descriptor, status.st_size)
