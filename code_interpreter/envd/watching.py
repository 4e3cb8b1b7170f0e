"""Watching directories with inotify(7), without losing what happens in new ones."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import inotify_simple
from e2b.envd.filesystem.filesystem_pb import EventType
from inotify_simple import Event, INotify, flags

from code_interpreter.envd.tree import Tree

# It would look for the C library by running ldconfig and gcc, which are the user's to replace.
inotify_simple._libc = ctypes.CDLL(None, use_errno=True)

MOST_PENDING = 100_000
"""Changes kept for a client that does not fetch them; older ones are dropped."""
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
_NEW = flags.CREATE | flags.MOVED_TO
_OLD = flags.DELETE | flags.MOVED_FROM


class WatchRefused(Exception):
    """The kernel follows no more directories; the message says what helps."""


@dataclass(frozen=True, slots=True)
class Change:
    """``name`` is relative to the watched directory."""

    name: str
    type: EventType


class Watch:
    """One watched directory. Close it.

    The kernel's queue is read as soon as something is in it, so that a new directory is
    followed at once. What came into it before that is found by looking, and told of as if
    it had been seen; events of the same things that were in the queue by then are left out.
    """

    def __init__(self, tree: Tree, root: str, place: str, *, recursive: bool) -> None:
        """``root`` is what the directory is called, ``place`` a path that leads to it for sure.

        Raises OSError, `WatchRefused`.
        """
        self.root = root
        self._tree = tree
        self._place = place
        self._recursive = recursive
        self._refusal: WatchRefused | None = None
        self._inotify = _make_inotify()
        self._directories: dict[int, str] = {}
        self._known: dict[tuple[int, str], int] = {}
        self._queue: deque[Event] = deque()
        self._taken = 0
        self._pending: deque[Change] = deque(maxlen=MOST_PENDING)
        self._arrived = asyncio.Event()
        try:
            self._follow("")
            if recursive:
                for name in self._directories_below():
                    self._follow(name)
            if self._refusal is not None:
                raise self._refusal
        except BaseException:
            self._inotify.close()
            raise

    def start(self) -> None:
        """From now on the event loop reads; before, events wait in the kernel's queue."""
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._read)

    def close(self) -> None:
        if not self._inotify.closed:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._arrived.set()

    # --- changes --------------------------------------------------------------------------

    def drain(self) -> list[Change]:
        """Everything that has happened so far; at once. Raises `WatchRefused`."""
        self._read()
        if self._refusal is not None and not self._pending:
            raise self._refusal
        changes = list(self._pending)
        self._pending.clear()
        self._arrived.clear()
        return changes

    async def changes(self, idle: float) -> list[Change]:
        """The next ones; none after ``idle`` seconds, or when it was closed.

        Raises `WatchRefused` if new directories could not be followed.
        """
        if not self._pending and self._refusal is None:
            try:
                async with asyncio.timeout(idle):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        return [] if self._inotify.closed else self.drain()

    def _read(self) -> None:
        self._fill()
        while self._queue:
            event = self._queue.popleft()
            self._taken += 1
            self._take(event)
        self._known.clear()
        if self._pending or self._refusal is not None:
            self._arrived.set()

    def _fill(self) -> None:
        while events := self._inotify.read(timeout=0):
            self._queue.extend(events)

    def _take(self, event: Event) -> None:
        if event.mask & flags.Q_OVERFLOW:
            self._look_again()
            return
        if event.mask & flags.IGNORED:
            self._directories.pop(event.wd, None)
            return
        directory = self._directories.get(event.wd)
        if directory is None or not event.name or self._is_known(event):
            return
        path = os.path.join(directory, event.name)
        for flag, kind in _TYPES:
            if event.mask & flag:
                self._note(path, kind)
        if self._recursive and event.mask & flags.ISDIR:
            self._directory_changed(path, event.mask)

    def _note(self, path: str, kind: EventType) -> None:
        change = Change(path, kind)
        # A file that is written in pieces has been written once, until somebody looks.
        if kind is EventType.WRITE and self._pending and self._pending[-1] == change:
            return
        self._pending.append(change)

    # --- new directories ------------------------------------------------------------------

    def _directory_changed(self, path: str, mask: int) -> None:
        if mask & _OLD:
            self._leave(path)
        if mask & _NEW:
            self._enter(path)

    def _follow(self, name: str) -> int | None:
        """Watch a directory; None if it is gone already, or cannot be watched."""
        try:
            descriptor = self._add_watch(os.path.join(self._place, name))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._refusal = _refusal("max_user_watches", "directories")
            elif not name:
                raise
            return None
        self._directories[descriptor] = name
        return descriptor

    def _add_watch(self, path: str) -> int:
        directory = self._tree.enter(path)
        try:
            return int(self._inotify.add_watch(f"/proc/self/fd/{directory}", _MASK))
        finally:
            os.close(directory)

    def _leave(self, path: str) -> None:
        """Stop watching a directory that was moved away, and what is in it."""
        below = path + "/"
        gone = [wd for wd, name in self._directories.items() if (name + "/").startswith(below)]
        for descriptor in gone:
            del self._directories[descriptor]
            try:
                self._inotify.rm_watch(descriptor)
            except OSError:
                continue  # it was deleted

    def _enter(self, path: str) -> None:
        """A new directory, and all below it: what is moved here may be deep."""
        levels = [self._meet(path)]
        while levels:
            below = next(levels[-1], None)
            if below is None:
                levels.pop()
            else:
                levels.append(self._meet(below))

    def _meet(self, path: str) -> Iterator[str]:
        """Watch a new directory, and tell what is in it; its directories, to be met at once."""
        descriptor = self._follow(path)
        if descriptor is None:
            return
        for entry in self._look_into(path):
            name = os.path.join(path, entry.name)
            self._known[descriptor, entry.name] = self._taken + len(self._queue)
            self._note(name, EventType.CREATE)
            if entry.is_directory:
                yield name
            elif entry.has_content:
                self._note(name, EventType.WRITE)

    def _is_known(self, event: Event) -> bool:
        """Whether it tells of something that was found by looking, and was told."""
        key = (event.wd, event.name)
        until = self._known.get(key)
        if until is None:
            return False
        if self._taken > until or event.mask & _OLD:
            del self._known[key]
            return False
        return bool(event.mask & (_NEW | flags.MODIFY))

    def _look_again(self) -> None:
        """The kernel's queue ran over: follow directories that it did not tell of."""
        if not self._recursive:
            return
        followed = set(self._directories.values())
        for name in self._directories_below():
            if name not in followed:
                self._note(name, EventType.CREATE)
                self._enter(name)
                followed.update(self._directories.values())

    # --- looking --------------------------------------------------------------------------

    def _look_into(self, path: str) -> list[_Entry]:
        """What is in a directory now, by name; nothing if it cannot be entered.

        What is in the queue afterwards is about what was found, or is gone.
        """
        try:
            directory = self._tree.enter(os.path.join(self._place, path))
        except OSError:
            return []
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            self._fill()
            return [_Entry.of(entry) for entry in found]
        finally:
            os.close(directory)

    def _directories_below(self) -> Iterator[str]:
        """All of them, each before what is in it."""
        waiting = [""]
        while waiting:
            path = waiting.pop()
            names = [entry.name for entry in self._look_into(path) if entry.is_directory]
            below = [os.path.join(path, name) for name in names]
            yield from below
            waiting += below


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    is_directory: bool
    has_content: bool

    @classmethod
    def of(cls, entry: os.DirEntry[str]) -> _Entry:
        is_directory = entry.is_dir(follow_symlinks=False)
        return cls(entry.name, is_directory, not is_directory and _has_content(entry))


def _make_inotify() -> INotify:
    try:
        return INotify(nonblocking=True)
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise _refusal("max_user_instances", "watchers") from error
        raise


def _refusal(setting: str, what: str) -> WatchRefused:
    """One sandbox has a share of what the machine's users have; one of the two is used up."""
    name = setting.replace("max_user_", "max_inotify_")
    own, all_have = _number("/proc/sys/user", name), _number("/proc/sys/fs/inotify", setting)
    if own < all_have:
        return WatchRefused(
            f"no more {what} can be watched: this sandbox has {own} for its watchers and "
            "programs together; stop other watchers"
        )
    return WatchRefused(
        f"no more {what} can be watched: the sandboxes of this host share {all_have} of them; "
        f"raise fs.inotify.{setting} on the host, or stop other watchers"
    )


def _number(directory: str, name: str) -> int:
    return int(Path(directory, name).read_text())


def _has_content(entry: os.DirEntry[str]) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0
