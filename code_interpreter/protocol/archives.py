"""The tar streams of ``/files/archive``: what the sandbox and the client read and write alike.

Both ends take the other for an enemy: a name that leads up, or headers without end, are
refused wherever a stream is read.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
import tarfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import IO

PATH = "/files/archive"
CHUNK = 1024 * 1024
MOST_HEADER = 1024 * 1024
"""Bytes before an entry's contents: names, and what else its headers tell."""
END = bytes(2 * tarfile.BLOCKSIZE)
_ALLOWANCE = MOST_HEADER + 2 * CHUNK  # tarfile fetches whole buffers, some of it contents


class BadArchive(ValueError):
    """Not a tar stream, or one with an entry that is refused; the message says which."""


class Excludes:
    """What is left out of a directory, by shell patterns.

    A pattern without a slash is meant for names at any depth, one with a slash for paths
    from the directory down. What is below a directory that is left out is left out too.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        patterns = [pattern.strip("/") for pattern in patterns]
        self._of_paths = [pattern for pattern in patterns if "/" in pattern]
        self._of_names = [pattern for pattern in patterns if pattern and "/" not in pattern]

    def cover(self, path: str) -> bool:
        """``path`` is relative to the directory."""
        name = path.rpartition("/")[2]
        return _any_matches(self._of_names, name) or _any_matches(self._of_paths, path)


def _any_matches(patterns: Collection[str], text: str) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


Pieces = Generator[bytes, None, None]


def gathered(pieces: Pieces) -> Pieces:
    """The same bytes in pieces of about `CHUNK`, with the end of an archive after them."""
    pending = bytearray()
    with contextlib.closing(pieces):
        for piece in pieces:
            pending += piece
            if len(pending) >= CHUNK:
                yield bytes(pending)
                pending.clear()
    yield bytes(pending) + END


def header(path: str, status: os.stat_result, kind: bytes, link: str = "", size: int = 0) -> bytes:
    """What comes before an entry's contents; ``kind`` is one of `tarfile`'s types."""
    entry = tarfile.TarInfo(path)
    entry.type, entry.linkname, entry.size = kind, link, size
    entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def contents(descriptor: int, size: int) -> Iterator[bytes]:
    """A file's bytes, filled up to whole blocks.

    One that shrinks meanwhile is filled up with zeros, as tar(1) does.
    """
    left = size
    while left and (piece := os.read(descriptor, min(left, CHUNK))):
        left -= len(piece)
        yield piece
    while left:
        piece = bytes(min(left, CHUNK))
        left -= len(piece)
        yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)


Put = Callable[[tarfile.TarInfo, tarfile.TarFile], None]


def read_entries(pull: Callable[[], bytes], put: Put) -> None:
    """Give each entry of the stream that ``pull`` gives, up to ``b""``, to ``put``.

    Raises `BadArchive`, and what ``put`` raises.
    """
    source = _Source(pull)
    try:
        # Its reader of streams asks for nothing but ``read``.
        with _damage_told():  # it reads the first header
            archive = tarfile.open(fileobj=_as_file(source), mode="r|", bufsize=CHUNK)  # noqa: SIM115 - closed below
        with archive:
            while (entry := _next(archive, source)) is not None:
                put(entry, archive)
        source.drain()
    except tarfile.TarError as error:
        raise BadArchive(f"the body is not a tar archive: {error}") from error


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    """``tarfile`` lets numbers that are none through as what they are."""
    try:
        yield
    except BadArchive:
        raise
    except (ValueError, OverflowError) as error:
        raise BadArchive(f"the header of an entry is damaged: {error}") from error


def names_of(path: str) -> list[str]:
    """The way to an entry; empty for the directory itself.

    Raises `BadArchive` for a path that leads up or starts at the root.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/") or ".." in names or "\0" in path:
        raise BadArchive(f"'{path[:200]}' leads out of the directory")
    return names


class _Source:
    """What `tarfile` reads from; it may read only so much between two entries."""

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull = pull
        self._rest = memoryview(b"")
        self.allowance: int | None = _ALLOWANCE

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = memoryview(self._pull())
        piece, self._rest = self._rest[:size], self._rest[size:]
        if self.allowance is not None:
            self.allowance -= len(piece)
            if self.allowance < 0:
                raise BadArchive(f"the headers of an entry have more than {MOST_HEADER} bytes")
        return bytes(piece)

    def drain(self) -> None:
        """What comes after the end of the archive."""
        while self._pull():
            pass


def _as_file(source: _Source) -> IO[bytes]:
    return source  # type: ignore[return-value]


def _next(archive: tarfile.TarFile, source: _Source) -> tarfile.TarInfo | None:
    source.allowance = _ALLOWANCE
    with _damage_told():
        entry = archive.next()
    source.allowance = None
    archive.members = []  # type: ignore[attr-defined]  # it would keep all it has seen
    return entry
