"""Directories of this machine as tar streams, and tar streams as directories.

What comes from a sandbox is not trusted: nothing is written, made or removed outside the
directory, through no link that was there before or came with the stream.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from code_interpreter.protocol.archives import (
    CHUNK,
    BadArchive,
    Excludes,
    Pieces,
    contents,
    gathered,
    header,
    names_of,
    read_entries,
)

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_NEW |= getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a directory is on its way."""

    path: str
    """What is being sent or received, relative to the directory."""
    entries: int
    """Files, directories and links so far, this one included."""
    bytes: int
    """Of the files' contents so far."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """What became of a directory."""

    entries: int
    """Files, directories and links."""
    bytes: int
    """Of the files' contents."""
    skipped: tuple[str, ...]
    """Paths that stayed behind: up, what is neither file, directory nor link; down, links
    that lead out of the directory."""


OnProgress = Callable[[TransferProgress], object]


@dataclass(slots=True)
class Tally:
    """Counts, and tells whoever wants to know; what is raised there ends the transfer."""

    on_progress: OnProgress | None = None
    check: Callable[[], object] = lambda: None
    """Raises when it is not to go on."""
    entries: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)

    def begin(self, path: str) -> None:
        self.entries += 1
        self.add(path, 0)

    def add(self, path: str, count: int) -> None:
        self.check()
        self.bytes += count
        if self.on_progress is not None:
            self.on_progress(TransferProgress(path, self.entries, self.bytes))

    def total(self) -> Transferred:
        return Transferred(self.entries, self.bytes, tuple(self.skipped))


def pack(directory: str, excludes: Excludes, tally: Tally) -> Pieces:
    """What is in a directory; links stay links. Raises OSError for what cannot be read."""
    return gathered(_entries(directory, excludes, tally))


def _entries(directory: str, excludes: Excludes, tally: Tally) -> Pieces:
    for path, entry in _walk(directory, excludes):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            tally.begin(path)
            yield header(path, status, tarfile.SYMTYPE, os.readlink(entry.path))  # noqa: PTH115 - as it is written
        elif stat.S_ISDIR(status.st_mode):
            tally.begin(path)
            yield header(path, status, tarfile.DIRTYPE)
        elif stat.S_ISREG(status.st_mode):
            yield from _file(entry.path, path, tally)
        else:
            tally.skipped.append(path)


def _walk(directory: str, excludes: Excludes) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Each directory before what is in it, in the order of names."""
    waiting = [_listed(directory, "")]
    while waiting:
        path, entry = next(waiting[-1], ("", None))
        if entry is None:
            waiting.pop()
        elif not excludes.cover(path):
            yield path, entry
            if entry.is_dir(follow_symlinks=False):
                waiting.append(_listed(entry.path, f"{path}/"))


def _listed(directory: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    return ((prefix + entry.name, entry) for entry in entries)


def _file(name: str, path: str, tally: Tally) -> Iterator[bytes]:
    descriptor = os.open(name, _READ)
    try:
        status = os.fstat(descriptor)
        tally.begin(path)
        yield header(path, status, tarfile.REGTYPE, size=status.st_size)
        left = status.st_size
        for piece in contents(descriptor, status.st_size):
            yield piece
            tally.add(path, min(len(piece), left))
            left -= min(len(piece), left)
    finally:
        os.close(descriptor)


def unpack(pull: Callable[[], bytes], directory: Path, tally: Tally) -> None:
    """Put the stream that ``pull`` gives, up to ``b""``, into a directory, which is made.

    What is there already is replaced file by file. Raises `BadArchive`; OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    read_entries(pull, _Target(directory, tally).put)


class _Target:
    def __init__(self, directory: Path, tally: Tally) -> None:
        self._root = directory.resolve()
        self._tally = tally
        self._real = {""}
        """Directories that are no links; nothing here makes them one."""

    def put(self, entry: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        names = names_of(entry.name)
        if not names:  # the directory itself
            return
        if os.sep != "/" and any(set(name) & {os.sep, ":"} for name in names):
            raise BadArchive(f"'{entry.name}' cannot be a file's name on this machine")
        for length in range(1, len(names)):
            self._enter("/".join(names[:length]), 0o755)
        path = "/".join(names)
        if entry.issym():
            self._link(path, entry.linkname)
            return
        self._tally.begin(path)
        if entry.isdir():
            self._enter(path, entry.mode & 0o777 | 0o700)
        elif entry.isreg() and not entry.issparse():
            self._fill(path, entry, archive)
        else:
            raise BadArchive(f"'{path}' is neither file, directory nor symbolic link")

    def _enter(self, path: str, mode: int) -> None:
        if path in self._real:
            return
        place = self._place(path)
        try:
            place.mkdir(mode)
        except FileExistsError:
            if not stat.S_ISDIR(place.lstat().st_mode):
                raise BadArchive(f"'{path}' is a link or a file on this machine") from None
        self._real.add(path)

    def _link(self, path: str, target: str) -> None:
        if leads_out(path, target):
            self._tally.skipped.append(path)
            return
        self._tally.begin(path)
        self._clear(path)
        self._place(path).symlink_to(target)

    def _fill(self, path: str, entry: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        coming = archive.extractfile(entry)
        assert coming is not None
        self._clear(path)
        with os.fdopen(os.open(self._place(path), _NEW, entry.mode & 0o777), "wb") as file:
            while piece := coming.read(CHUNK):
                file.write(piece)
                self._tally.add(path, len(piece))
            file.flush()
            _set_time(file.fileno(), entry.mtime)

    def _clear(self, path: str) -> None:
        """Remove a file or a link; a directory is in the way."""
        self._place(path).unlink(missing_ok=True)

    def _place(self, path: str) -> Path:
        return self._root.joinpath(path)


def _set_time(descriptor: int, seconds: float) -> None:
    if os.utime in os.supports_fd:
        with contextlib.suppress(OSError, OverflowError, ValueError):  # any number may come
            os.utime(descriptor, (seconds, seconds))


def leads_out(path: str, target: str) -> bool:
    """Whether a link at ``path`` could lead out of the directory that both are in.

    It cannot where all steps up come first, and are no more than there are directories
    above it: after a name, that name may be a link itself, and up from there is anywhere.
    """
    steps = target.split("/")
    up = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    odd = os.sep != "/" and set(target) & {os.sep, ":"}
    return target.startswith("/") or up > path.count("/") or ".." in steps[up:] or bool(odd)
