"""Whether this machine can hold one more sandbox now.

Sandboxes are given more than the machine has, all together: an idle one takes some tens of
MiB, and may take its limit. So a new one is let in if a part of its limit (1 /
``CODE_INTERPRETER_OVERCOMMIT``) is there beyond a reserve that is never given away.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from code_interpreter.host.errors import NoRoom
from code_interpreter.host.runtimes.base import Limits
from code_interpreter.host.settings import Settings

MIB = 1024 * 1024
PLEDGE = 48 * MIB
"""What a new sandbox takes by itself; it counts until it can be seen to be taken."""
PLEDGE_SECONDS = 2.0
GLANCE_SECONDS = 0.1
"""For which many creates at once go by what was measured for the first."""
_LEAST_MEMORY_RESERVE, _MOST_MEMORY_RESERVE = 256 * MIB, 2048 * MIB
_LEAST_DISK_RESERVE, _MOST_DISK_RESERVE = 512 * MIB, 4096 * MIB
_RESERVED_PART = 20


class Admission:
    """``room_of_runtime`` is `SandboxRuntime.memory_room`."""

    def __init__(self, settings: Settings, room_of_runtime: Callable[[], int | None]) -> None:
        self._overcommit = settings.overcommit
        self._directory = settings.data_dir
        self._room_of_runtime = room_of_runtime
        self._making = 0
        self._made: deque[float] = deque()
        self._seen: tuple[float, int, int] | None = None
        """When, and what bytes of memory and disk there were."""
        self.memory_reserve = memory_reserve(settings)
        self._disk_reserve = disk_reserve(settings)

    def check(self, limits: Limits, *, reclaimable: int = 0) -> None:
        """``reclaimable``: bytes that others hold, and give way with. Raises `NoRoom`."""
        shortage = self.shortage(limits, spare=-reclaimable)
        if shortage is not None:
            raise NoRoom(f"this machine has no room for another sandbox now: {shortage}")

    def had_room(self, limits: Limits) -> bool:
        """Whether there was room for such a sandbox a moment ago: for many creates at once.

        What has been let in since counts as taken.
        """
        now = time.monotonic()
        if self._seen is None or self._seen[0] < now - GLANCE_SECONDS:
            self._seen = now, self._memory(), self._disk()
        _, memory, disk = self._seen
        return self._lacking(limits, memory, disk) is None

    def shortage(self, limits: Limits, *, spare: int = 0) -> str | None:
        """What is short for a sandbox of these limits and ``spare`` bytes of memory; or None."""
        return self._lacking(limits, self._memory(), self._disk(), spare)

    def disk_shortage(self, limits: Limits) -> str | None:
        """What the data directory's disk lacks for a sandbox of these limits; or None."""
        return self._disk_lacking(limits, self._disk())

    def _lacking(self, limits: Limits, memory: int, disk: int, spare: int = 0) -> str | None:
        """``memory`` and ``disk``: bytes that were there when they were measured."""
        room = memory - self._pledged()
        needed = max(PLEDGE, self._part(limits.memory_bytes)) + spare
        if room < needed:
            return _text("memory", needed, room, self.memory_reserve)
        return self._disk_lacking(limits, disk)

    def _disk_lacking(self, limits: Limits, free: int) -> str | None:
        needed = self._part(limits.disk_bytes)
        return _text("disk", needed, free, self._disk_reserve) if free < needed else None

    @contextmanager
    def making(self) -> Iterator[None]:
        """While a box is made, and a moment longer, what it will take counts as taken."""
        self._making += 1
        try:
            yield
        finally:
            self._making -= 1
            self._made.append(time.monotonic())

    def _memory(self) -> int:
        rooms = [psutil.virtual_memory().available - self.memory_reserve, self._room_of_runtime()]
        return min(room for room in rooms if room is not None)

    def _disk(self) -> int:
        return shutil.disk_usage(self._directory).free - self._disk_reserve

    def _pledged(self) -> int:
        while self._made and self._made[0] < time.monotonic() - PLEDGE_SECONDS:
            self._made.popleft()
        return PLEDGE * (self._making + len(self._made))

    def _part(self, limit: int | None) -> int:
        return 0 if limit is None else int(limit / self._overcommit)


def memory_reserve(settings: Settings) -> int:
    """Bytes of memory that sandboxes never get."""
    if settings.memory_reserve_mb is not None:
        return settings.memory_reserve_mb * MIB
    part = psutil.virtual_memory().total // _RESERVED_PART
    return min(max(part, _LEAST_MEMORY_RESERVE), _MOST_MEMORY_RESERVE)


def disk_reserve(settings: Settings) -> int:
    """Bytes of disk that have to be free for another sandbox."""
    if settings.disk_reserve_mb is not None:
        return settings.disk_reserve_mb * MIB
    part = shutil.disk_usage(settings.data_dir).total // _RESERVED_PART
    return min(max(part, _LEAST_DISK_RESERVE), _MOST_DISK_RESERVE)


def _text(what: str, needed: int, room: int, reserve: int) -> str:
    return (
        f"it needs {needed // MIB} MiB of {what}, and {max(0, room) // MIB} MiB are left beyond "
        f"the reserve of {reserve // MIB} MiB; end some sandboxes, or ask for less"
    )
