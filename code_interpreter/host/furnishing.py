"""Boxes that are half made ahead: for more creates at once than the pool has boxes for.

Such a box has all but a kernel: namespaces, mounts, disk, control groups, init, an envd that
rests and a gateway that waits to be introduced. A create that gets one is left with the fork
of its kernel. What they are made for, nobody has said yet: their records are in the phase
CREATING, so a host that starts again removes what an earlier one has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from code_interpreter.host.admission import Admission
from code_interpreter.host.boxes import Boxes
from code_interpreter.host.runtimes.base import Limits

QUIET_SECONDS = 0.25
"""Without a create, before another is made: those who have a sandbox now use it."""
LOOK_AGAIN = 5.0
"""Seconds until it is looked what there is and what memory is left, also after a failure."""
BYTES = 16 * 1024 * 1024
"""What is free at least when one of them ends."""
SPARE = 256 * 1024 * 1024
"""Bytes that must be there beyond a sandbox's need."""
_log = logging.getLogger(__name__)


class Furnishing:
    """`run` keeps `Boxes.furnished` filled until it is cancelled."""

    def __init__(
        self,
        template: str,
        limits: Limits,
        most: int,
        boxes: Boxes,
        machine: Admission,
        busy: Callable[[], bool],
        pooled: Callable[[], int],
    ) -> None:
        """``busy`` tells whether a create is under way, ``pooled`` how many whole boxes are
        kept for the same demand."""
        self._template = template
        self._limits = limits
        self._most = most
        self._boxes = boxes
        self._machine = machine
        self._busy = busy
        self._pooled = pooled
        self._changed = asyncio.Event()
        self._last_create = -QUIET_SECONDS

    def note_create(self) -> None:
        """One more sandbox was asked for."""
        self._last_create = time.monotonic()
        self._changed.set()

    def look_again(self) -> None:
        """Something has changed, as memory that is short."""
        self._changed.set()

    def memory_bytes(self) -> int:
        """What they would give way with."""
        return BYTES * len(self._boxes.furnished)

    def _wanted(self) -> int:
        return max(0, self._most - self._pooled())

    async def run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._settle()
            except Exception as error:
                _log.warning("no sandbox could be made ahead: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN):
                    await self._changed.wait()

    async def _settle(self) -> None:
        held = self._boxes.furnished
        self._boxes.end_dead_ones()
        while len(held) < self._wanted():
            await self._until_quiet()
            if self._machine.shortage(self._limits, spare=SPARE):
                break
            await self._make_one()
        while held and (len(held) > self._wanted() or self._machine.shortage(self._limits)):
            record, _ = held.pop(next(iter(held)))
            await self._boxes.discard_shielded(record)

    async def _make_one(self) -> None:
        """It takes half the time at most: nobody has asked for it."""
        started = time.monotonic()
        await self._boxes.furnish(self._template, self._limits)
        await asyncio.sleep(time.monotonic() - started)

    async def _until_quiet(self) -> None:
        while True:
            if not self._busy() and time.monotonic() >= self._last_create + QUIET_SECONDS:
                return
            await asyncio.sleep(QUIET_SECONDS / 4)
