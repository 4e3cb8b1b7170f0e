"""Boxes that are half made ahead: for more creates at once than the pool has boxes for.

Such a box has its namespaces, mounts, disk and control groups, and an init that waits; no
envd, gateway or kernel. It takes some 5 MiB, and saves a create a third of the work. How many
there are follows the demand, up to a maximum; its records are in the phase CREATING, so a
host that starts again removes what an earlier one has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from code_interpreter.host.admission import Admission
from code_interpreter.host.boxes import Boxes
from code_interpreter.host.demand import Demand
from code_interpreter.host.runtimes.base import Limits

QUIET_SECONDS = 0.25
"""Without a create, before another is made: those who have a sandbox now use it."""
LOOK_AGAIN = 5.0
"""Seconds until it is looked what memory and demand are, also after a failure."""
SPARE = 256 * 1024 * 1024
"""Bytes that must be there beyond a sandbox's need."""
_log = logging.getLogger(__name__)


class Furnishing:
    """`run` keeps `Boxes.furnished` as the demand is, until it is cancelled."""

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
        self._demand = Demand(most + 1)
        self._changed = asyncio.Event()
        self._last_create = -QUIET_SECONDS

    def note_create(self) -> None:
        """One more sandbox was asked for."""
        self._demand.note()
        self._last_create = time.monotonic()
        self._changed.set()

    def _wanted(self) -> int:
        """One create at a time does not wait for another, so it needs nothing ahead."""
        return min(self._most, max(0, self._demand.peak() - max(1, self._pooled())))

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
        while len(held) < self._wanted():
            await self._until_quiet()
            if self._machine.shortage(self._limits, spare=SPARE):
                break
            await self._boxes.furnish(self._template, self._limits)
        while held and (len(held) > self._wanted() or self._machine.shortage(self._limits)):
            record, _ = held.pop(next(iter(held)))
            await self._boxes.discard_shielded(record)

    async def _until_quiet(self) -> None:
        while True:
            if not self._busy() and time.monotonic() >= self._last_create + QUIET_SECONDS:
                return
            await asyncio.sleep(QUIET_SECONDS / 4)
