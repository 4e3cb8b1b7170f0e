"""The numbered events of one execution: kept for whoever reads them, now or again later.

The latest stay in memory, older ones go to a file: when nobody waits for them, unless there
are too many; and a while after the end nearly all of them do. When the file cannot be written
(a full disk), events stay in memory up to `HARD_BYTES`; then the journal is `full`, and whoever
fills it should stop.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from code_interpreter.gateway.frames import Entry
from code_interpreter.protocol.executions import (
    Accepted,
    EndOfExecution,
    ExecutionEvent,
    NumberOfExecutions,
    QueueMoved,
    ResultEvent,
)

MEMORY_BYTES = 4 << 20
LEISURE_SECONDS = 0.2
"""After which what is more goes to the file: its readers come first."""
SETTLED_BYTES = 32 << 10
SETTLE_SECONDS = 2.0
"""After the end, for readers to read from memory."""
HARD_BYTES = 8 << 20
"""Above, events go to the file at once."""
BATCH_BYTES = 64 << 10
HOLD_SECONDS = 0.002
"""How long an event that says little by itself waits for the next, to go out with it."""


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._recent: deque[Entry] = deque()
        self._recent_bytes = 0
        self.size = 0
        """Bytes of all events, about."""
        self._offsets = array("Q", [0])
        """Where each event in the file begins, and where the last one ends."""
        self._file: int | None = None
        self._file_failed = False
        self._waiters: list[asyncio.Future[None]] = []
        self._waking: asyncio.TimerHandle | None = None
        self._moving: asyncio.TimerHandle | None = None
        self._due_seq = 0
        """The last event that its followers have been told of."""
        self.last_seq = 0
        self.ended = False

    @property
    def written(self) -> int:
        """Bytes in the file."""
        return self._offsets[-1]

    @property
    def full(self) -> bool:
        return self._file_failed and self._recent_bytes > HARD_BYTES

    def append(self, event: ExecutionEvent, *, verbatim: bool = False) -> None:
        """``verbatim``: its long texts stand in JSON as they are, without escapes."""
        entry = Entry(event, verbatim=verbatim)
        self._recent.append(entry)
        self._recent_bytes += entry.size
        self.size += entry.size
        self.last_seq = event.seq
        if self._recent_bytes > HARD_BYTES:
            self._move_down_to(HARD_BYTES)  # a little each time: others wait meanwhile
        elif self._recent_bytes > MEMORY_BYTES and self._moving is None:
            loop = asyncio.get_running_loop()
            self._moving = loop.call_later(LEISURE_SECONDS, self._move_at_leisure)
        if isinstance(event, EndOfExecution):
            self.ended = True
            if self._recent_bytes > SETTLED_BYTES:
                loop = asyncio.get_running_loop()
                loop.call_later(SETTLE_SECONDS, self._move_down_to, SETTLED_BYTES)
        if _may_wait(event):
            self._wake_soon()
        else:
            self._wake()

    def _move_at_leisure(self) -> None:
        self._moving = None
        self._move_down_to(MEMORY_BYTES)

    def _move_down_to(self, limit: int) -> None:
        """Write events to the file until no more than ``limit`` bytes of them are in memory."""
        while self._recent_bytes > limit and len(self._recent) > 1 and self._move_oldest():
            pass

    def _wake_soon(self) -> None:
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._wake)

    def _wake(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        self._due_seq = self.last_seq
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _move_oldest(self) -> bool:
        """Write the oldest event in memory to the file."""
        if self._file_failed:
            return False
        entry = self._recent[0]
        data = entry.frame
        try:
            self._write(data)
        except OSError:
            self._file_failed = True
            return False
        self._offsets.append(self._offsets[-1] + len(data))
        self._recent.popleft()
        self._recent_bytes -= entry.size
        return True

    def _write(self, data: bytes) -> None:
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
        at = self._offsets[-1]
        while data:
            written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written

    def read(self, seq: int) -> Entry:
        """Event number ``seq``, which must have been appended."""
        moved = len(self._offsets) - 1
        if seq > moved:
            return self._recent[seq - moved - 1]
        start, end = self._offsets[seq - 1], self._offsets[seq]
        assert self._file is not None
        return Entry(None, os.pread(self._file, end - start, start))

    def events(self) -> list[ExecutionEvent]:
        """All of them so far."""
        return [self.read(seq).event for seq in range(1, self.last_seq + 1)]

    async def follow(self, after: int = 0) -> AsyncIterator[list[bytes]]:
        """Frames of the events after number ``after``, up to the last one.

        Those that are there already come together, up to `BATCH_BYTES` and one more.
        """
        seq = after
        while True:
            frames, size = [], 0
            while seq < self._due_seq and size < BATCH_BYTES:
                seq += 1
                frames.append(self.read(seq).frame)
                size += len(frames[-1])
            if frames:
                yield frames
            elif self.ended:
                return
            else:
                await self.changed()

    async def changed(self) -> None:
        """Return when there is another event."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def remove(self) -> None:
        """Forget everything."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._path.unlink(missing_ok=True)
        self._recent.clear()


def _may_wait(event: ExecutionEvent) -> bool:
    """The start of a cell is followed by what it does, its value by its end.

    A short cell is one write to its client then, and wakes it once.
    """
    if isinstance(event, ResultEvent):
        return event.is_main_result
    return isinstance(event, (Accepted, QueueMoved, NumberOfExecutions))
