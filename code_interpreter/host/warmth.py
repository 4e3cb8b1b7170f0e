"""Kernels of other languages than Python, started ahead in the sandboxes of the pool.

Python's kernels are forked in milliseconds; Deno, which runs JavaScript, takes a third of a
second to start, and 170 MiB that it shares with nobody. So it is started in the one sandbox that
will be given out next, while nothing else is to do, and ends again where it is not used or its
memory is needed.
"""

from __future__ import annotations

import asyncio
import logging

import psutil

from code_interpreter.host.admission import MIB, Admission
from code_interpreter.host.boxes import Boxes
from code_interpreter.host.guest_link import GuestLink, GuestUnreachable
from code_interpreter.host.records import Record
from code_interpreter.host.registry import Registry
from code_interpreter.host.runtimes.base import RuntimeFailure
from code_interpreter.host.settings import Settings
from code_interpreter.host.tasks import Tasks

DEFAULT = ("javascript",)
SMALL_MACHINE = 8192 * MIB
"""A machine with less memory starts nothing ahead unless it is told to."""
PLEDGE = 176 * MIB
"""What a language takes, until it can be seen, and where nobody counts."""
FIRST_CELLS = 1.0
"""Seconds that who has got a sandbox has it alone, before it is told what ends when."""
DEADLINE = 5.0
RETRY = 10.0
_log = logging.getLogger(__name__)


def languages_of(settings: Settings) -> tuple[str, ...]:
    """Those that the settings say, or what suits this machine."""
    if settings.warm_languages is not None:
        return settings.warm_languages
    return DEFAULT if psutil.virtual_memory().total >= SMALL_MACHINE else ()


class Warmth:
    """Of one pool's boxes: in which of them more than Python runs."""

    def __init__(
        self,
        languages: tuple[str, ...],
        seconds: float,
        boxes: Boxes,
        registry: Registry,
        machine: Admission,
    ) -> None:
        """``seconds``: how long a kernel may stay unused once its sandbox is given out."""
        self.languages = languages
        self._seconds = seconds
        self._boxes = boxes
        self._registry = registry
        self._machine = machine
        self._warm: set[str] = set()
        self._tasks = Tasks()

    def __contains__(self, record: Record) -> bool:
        return record.sandbox_id in self._warm

    @property
    def pledge(self) -> int:
        """Bytes to reckon with for one box."""
        return PLEDGE * len(self.languages)

    async def start_in(self, record: Record) -> None:
        """Start the kernels; they are there a moment later. Raises `RuntimeFailure`."""
        self._warm.add(record.sandbox_id)
        with self._machine.making():
            await self._boxes.introduce(record, record, languages=self.languages)

    async def end_in(self, record: Record) -> None:
        """Have the kernels end, if there are any. Raises `RuntimeFailure`."""
        if record in self:
            self._warm.discard(record.sandbox_id)
            await _end_unused(record, 0)

    def forget(self, record: Record) -> None:
        """The box is no longer the pool's."""
        self._warm.discard(record.sandbox_id)

    def given_out(self, record: Record) -> None:
        """Somebody has got the box: what he does not use in time ends."""
        if record in self:
            self.forget(record)
            self._tasks.spawn(self._tell(record), f"unused kernels of {record.sandbox_id}")

    async def _tell(self, record: Record) -> None:
        await asyncio.sleep(FIRST_CELLS)
        await tell_what_ends(record, self._seconds, self._registry)

    async def close(self) -> None:
        await self._tasks.close()


async def tell_what_ends(record: Record, seconds: float, registry: Registry) -> None:
    """Again and again, until the sandbox hears of it or is gone: it may be paused."""
    while registry.find(record.sandbox_id) is not None:
        try:
            await _end_unused(record, seconds)
        except RuntimeFailure as error:
            _log.info("sandbox %s is told later which kernels end: %s", record.sandbox_id, error)
            await asyncio.sleep(RETRY)
        else:
            return


async def _end_unused(record: Record, seconds: float) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            await GuestLink(record.live_box.run_directory).end_unused_after(seconds)
    except (TimeoutError, GuestUnreachable) as error:
        raise RuntimeFailure(f"its gateway does not answer: {error}") from error
