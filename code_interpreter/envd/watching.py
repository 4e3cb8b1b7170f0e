"""Watching directories with inotify(7), without losing what happens in new ones."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from e2b.envd.filesystem.filesystem_pb import EventType
from inotify_simple import INotify, flags

MOST_PENDING = 100_000
"""Events kept for a client that does not fetch them; older ones are dropped."""
_MASK = (
    flags.CREATE
    | flags.MODIFY
    | flags.ATTRIB
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.ONLYDIR
    | flags.EXCL_UNLINK
)
_TYPES = (
    (flags.CREATE, EventType.CREATE),
    (flags.MOVED_TO, EventType.CREATE),
    (flags.MODIFY, EventType.WRITE),
    (flags.DELETE, EventType.REMOVE),
    (flags.MOVED_FROM, EventType.RENAME),
    (flags.ATTRIB, EventType.CHMOD),
)


@dataclass(frozen=True, slots=True)
class Change:
    """``name`` is relative to the watched directory."""

    name: str
    type: EventType


class Watch:
    """One watched directory. Close it."""

    def __init__(self, root: str, *, recursive: bool) -> None:
        self.root = root
        self._recursive = recursive
        self._inotify = INotify(nonblocking=True)
        self._directories: dict[int, str] = {}
        self._announced: set[str] = set()
        self._pending: deque[Change] = deque(maxlen=MOST_PENDING)
        self._add(root, "")
        if recursive:
            for name in _directories_below(root):
                self._add(os.path.join(root, name), name)

    def close(self) -> None:
        self._inotify.close()

    def _add(self, path: str, name: str) -> bool:
        try:
            descriptor = self._inotify.add_watch(path, _MASK)
        except OSError:
            if not name:
                self._inotify.close()
                raise
            return False  # gone already
        self._directories[descriptor] = name
        return True

    def drain(self) -> list[Change]:
        """Everything that has happened so far; at once."""
        for event in self._inotify.read(timeout=0):
            self._take(event.wd, event.mask, event.name)
        changes = list(self._pending)
        self._pending.clear()
        return changes

    async def changes(self) -> list[Change]:
        """Wait for the next ones."""
        while True:
            found = self.drain()
            if found:
                return found
            await _readable(self._inotify.fileno())

    def _take(self, descriptor: int, mask: int, name: str) -> None:
        if mask & flags.IGNORED:
            self._directories.pop(descriptor, None)
            return
        directory = self._directories.get(descriptor)
        if directory is None or not name:
            return
        path = os.path.join(directory, name) if directory else name
        for flag, kind in _TYPES:
            if mask & flag:
                self._note(path, kind)
        if self._recursive and mask & flags.ISDIR and mask & (flags.CREATE | flags.MOVED_TO):
            self._enter(path)

    def _note(self, path: str, kind: EventType) -> None:
        if kind is EventType.CREATE and path in self._announced:
            self._announced.discard(path)
            return
        change = Change(path, kind)
        # A file that is written in pieces has been written once, until somebody looks.
        if kind is EventType.WRITE and self._pending and self._pending[-1] == change:
            return
        self._pending.append(change)

    def _enter(self, name: str) -> None:
        """Follow a new directory, and tell of what came into it before it was followed."""
        if not self._add(os.path.join(self.root, name), name):
            return
        for below in _entries(os.path.join(self.root, name)):
            path = os.path.join(name, below.name)
            self._pending.append(Change(path, EventType.CREATE))
            self._announced.add(path)
            if below.is_dir(follow_symlinks=False):
                self._enter(path)
            elif _has_content(below):
                self._note(path, EventType.WRITE)


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _has_content(entry: os.DirEntry[str]) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _directories_below(root: str) -> Iterator[str]:
    for path, names, _ in os.walk(root):
        for name in names:
            full = os.path.join(path, name)
            if not os.path.islink(full):
                yield os.path.relpath(full, root)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
