"""A tar stream put into a directory, without a way out of it.

Every entry is made by descriptors from the directory down, and no symbolic link is
followed on the way, whether it was there before, came with the archive, or is put there
by somebody meanwhile. What an entry replaces is removed first, never written to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from code_interpreter.envd.tree import Tree
from code_interpreter.guest.users import User
from code_interpreter.protocol.archives import CHUNK, BadArchive, names_of, read_entries

MOST_ENTRIES = 1_000_000
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Unpacked:
    """``bytes`` are those of the files' contents."""

    entries: int
    bytes: int


def unpack(tree: Tree, directory: int, pull: Callable[[], bytes], user: User) -> Unpacked:
    """Put what ``pull`` gives, up to ``b""``, into an open directory; everything is the user's.

    Files, directories, symbolic links, and hard links to what came before. Raises
    `BadArchive`; OSError.
    """
    target = _Target(tree, directory, user)
    read_entries(pull, target.make)
    return Unpacked(target.entries, target.bytes)


class _Target:
    def __init__(self, tree: Tree, directory: int, user: User) -> None:
        self._tree = tree
        self._directory = directory
        self._user = user
        self.entries = self.bytes = 0

    def make(self, entry: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise BadArchive(f"an archive has at most {MOST_ENTRIES} entries")
        names = names_of(entry.name)
        if not names:  # the directory itself
            return
        try:
            above = self._enter(names[:-1])
        except OSError as error:
            raise _refusal(entry, error) from error
        try:
            self._make(entry, archive, above, names[-1])
        except OSError as error:
            raise _refusal(entry, error) from error
        finally:
            os.close(above)

    def _make(
        self, entry: tarfile.TarInfo, archive: tarfile.TarFile, above: int, name: str
    ) -> None:
        if entry.isdir():
            os.close(self._enter_one(above, name, entry.mode & 0o777 | 0o700))
        elif entry.issym():
            if "\0" in entry.linkname:
                raise BadArchive(f"'{entry.name}' leads to a name with NUL")
            _clear(above, name)
            os.symlink(entry.linkname, name, dir_fd=above)
            self._tree.give_link(above, name, self._user)
        elif entry.islnk():
            self._link(entry, above, name)
        elif entry.isreg():
            self._fill(entry, archive, above, name)
        else:
            raise BadArchive(f"'{entry.name}' is neither file, directory nor link")

    def _enter(self, names: list[str]) -> int:
        """The directory below, made where it is not there."""
        descriptor = os.dup(self._directory)
        for name in names:
            try:
                below = self._enter_one(descriptor, name, 0o755)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _enter_one(self, above: int, name: str, mode: int) -> int:
        try:
            os.mkdir(name, mode, dir_fd=above)
        except FileExistsError:
            return os.open(name, _DIRECTORY, dir_fd=above)
        made = os.open(name, _DIRECTORY, dir_fd=above)
        try:
            self._tree.give(made, self._user)
        except BaseException:
            os.close(made)
            raise
        return made

    def _link(self, entry: tarfile.TarInfo, above: int, name: str) -> None:
        names = names_of(entry.linkname)
        if not names:
            raise BadArchive(f"'{entry.name}' is a link to nothing")
        source = self._enter(names[:-1])
        try:
            _clear(above, name)
            os.link(names[-1], name, src_dir_fd=source, dst_dir_fd=above, follow_symlinks=False)
        finally:
            os.close(source)

    def _fill(
        self, entry: tarfile.TarInfo, archive: tarfile.TarFile, above: int, name: str
    ) -> None:
        contents = archive.extractfile(entry)
        assert contents is not None
        _clear(above, name)
        descriptor = os.open(name, _NEW, entry.mode & 0o777, dir_fd=above)
        try:
            self._tree.give(descriptor, self._user)
            while piece := contents.read(CHUNK):
                self.bytes += len(piece)
                _write_all(descriptor, piece)
            os.fchmod(descriptor, entry.mode & 0o777)
            with contextlib.suppress(OSError, OverflowError, ValueError):  # any number is allowed
                os.utime(descriptor, (entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)


def _clear(above: int, name: str) -> None:
    """Remove a file or a link; a directory is in the way."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=above)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _refusal(entry: tarfile.TarInfo, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OSError(error.errno, error.strerror, entry.name)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return BadArchive(f"'{entry.name}' leads through a link or a file")
    return BadArchive(f"'{entry.name}': {(error.strerror or str(error)).lower()}")
