"""The sandbox's files: looked at, made, moved and removed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from e2b.envd.filesystem.filesystem_pb import EntryInfo

from code_interpreter.envd.entries import Describer
from code_interpreter.envd.listing import list_directory
from code_interpreter.envd.removal import remove
from code_interpreter.envd.tree import Tree
from code_interpreter.envd.watching import Watch
from code_interpreter.guest.users import User

_ABOUT_TARGET = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY)
Mover = Callable[[str, str], None]


class AlreadyThere(Exception):
    """The directory that was to be made exists."""


class Filesystem:
    """Blocks: call it in a thread. All paths are absolute. All methods raise OSError."""

    def __init__(self, tree: Tree, move_across: Mover) -> None:
        """``move_across`` moves what rename(2) cannot; it gets paths without links."""
        self._tree = tree
        self._move_across = move_across

    def describe(self, path: str) -> EntryInfo:
        """Below a file there is nothing: FileNotFoundError, so that clients ask on."""
        with _naming(path):
            try:
                with self._tree.parent(path) as (above, name):
                    return Describer(self._tree).describe(above, name, path)
            except NotADirectoryError as error:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error

    def make_directory(self, path: str, user: User) -> EntryInfo:
        """Also what is missing above it. Raises `AlreadyThere`."""
        try:
            with self._tree.find(path) as found:
                if stat.S_ISDIR(os.fstat(found).st_mode):
                    raise AlreadyThere(f"directory already exists: {path}")
                raise OSError(errno.EEXIST, "There is a file of this name", path)
        except FileNotFoundError:
            self._tree.make_directories(path, user)
        return self.describe(path)

    def move(self, source: str, target: str, user: User) -> EntryInfo:
        """Makes what is missing above the target."""
        with _naming(source), self._tree.parent(source) as (above, name):
            os.lstat(name, dir_fd=above)
        self._tree.make_directories(os.path.dirname(target), user)
        with (
            self._tree.parent(source) as (from_directory, old),
            self._tree.parent(target) as (to_directory, new),
        ):
            try:
                os.rename(old, new, src_dir_fd=from_directory, dst_dir_fd=to_directory)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    about = target if error.errno in _ABOUT_TARGET else source
                    raise OSError(error.errno, error.strerror, about) from error
                self._move_across(
                    os.path.join(self._tree.where(from_directory), old),
                    os.path.join(self._tree.where(to_directory), new),
                )
        return self.describe(target)

    def remove(self, path: str) -> None:
        """With all that is in it. What is not there is gone already."""
        if path == "/":
            raise OSError(errno.EINVAL, "The root directory cannot be removed", path)
        with contextlib.suppress(FileNotFoundError):
            with _naming(path), self._tree.parent(path) as (above, name):
                remove(self._tree, above, name)

    def list(self, path: str, depth: int) -> list[EntryInfo]:
        """Depth first, names in order. A link to a directory is listed, but not entered."""
        with self._tree.directory(path) as directory:
            return list_directory(self._tree, directory, path, depth)

    def place_of_directory(self, path: str) -> str:
        """Where a path to a directory leads, without links."""
        with self._tree.directory(path) as directory:
            return self._tree.where(directory)

    def watch(self, path: str, recursive: bool) -> Watch:
        with _naming(path), self._tree.directory(path) as directory:
            return Watch(self._tree, path, self._tree.where(directory), recursive=recursive)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors name the path that the client gave."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
