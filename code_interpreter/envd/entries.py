"""What clients are told about a file."""

from __future__ import annotations

import functools
import os
import stat

from e2b.envd.filesystem.filesystem_pb import EntryInfo, FileType
from protobuf.wkt import Timestamp

from code_interpreter.envd.accounts import group_names, user_names
from code_interpreter.envd.metadata import read_metadata
from code_interpreter.envd.text import printable
from code_interpreter.envd.tree import Tree

_LETTERS = (
    (stat.S_ISDIR, "d"),
    (stat.S_ISLNK, "L"),
    (stat.S_ISFIFO, "p"),
    (stat.S_ISSOCK, "S"),
    (stat.S_ISBLK, "D"),
    (stat.S_ISCHR, "Dc"),
)


class Describer:
    """Remembers the accounts' names: make one for each answer."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._users = user_names()
        self._groups = group_names()

    def describe(self, directory: int, name: str, path: str) -> EntryInfo:
        """Of the file ``name`` itself in an open directory; ``path`` is what it is called.

        ``type`` is that of what a symbolic link leads to. Raises OSError.
        """
        own = os.lstat(name, dir_fd=directory)
        is_link = stat.S_ISLNK(own.st_mode)
        target, mode = self._tree.behind(directory, name) if is_link else (None, own.st_mode)
        entry = EntryInfo(
            name="/" if name == "." else printable(name),
            type=_type(mode),
            path=printable(path),
            size=own.st_size,
            mode=stat.S_IMODE(own.st_mode) & 0o777,
            permissions=permissions(own.st_mode),
            owner=self._users.get(own.st_uid, str(own.st_uid)),
            group=self._groups.get(own.st_gid, str(own.st_gid)),
            modified_time=_timestamp(own.st_mtime_ns),
            metadata={} if is_link else read_metadata(f"/proc/self/fd/{directory}/{name}"),
            is_symlink=is_link,
        )
        if target is not None:
            entry.symlink_target = printable(target)
        return entry


def _timestamp(nanoseconds: int) -> Timestamp:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=rest)


def _type(mode: int) -> FileType:
    if stat.S_ISDIR(mode):
        return FileType.DIRECTORY
    return FileType.FILE if stat.S_ISREG(mode) else FileType.UNSPECIFIED


@functools.lru_cache(1000)
def permissions(mode: int) -> str:
    """As Go's ``fs.FileMode.String`` prints it."""
    letters = "".join(letter for test, letter in _LETTERS if test(mode))
    for bit, letter in ((stat.S_ISUID, "u"), (stat.S_ISGID, "g"), (stat.S_ISVTX, "t")):
        if mode & bit:
            letters += letter
    bits = "".join(
        letter if mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx")
    )
    return (letters or "-") + bits
