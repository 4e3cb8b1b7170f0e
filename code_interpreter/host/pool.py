"""Boxes that are made ahead, so that a create need not wait for one.

How many are kept follows the demand between two bounds. They are made one at a time, while
no create is under way, and given back when memory or disk is short.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from code_interpreter.host.admission import PLEDGE, Admission
from code_interpreter.host.boxes import Boxes, Templates, new_token
from code_interpreter.host.demand import Demand
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.registry import Registry
from code_interpreter.host.runtimes.base import Limits, SandboxRuntime
from code_interpreter.host.tasks import Tasks
from code_interpreter.host.warmth import Warmth

QUIET_SECONDS = 0.05
"""Without a create, before the next box is made: those who have a sandbox now use it."""
PATIENCE = 1.0
"""Seconds that a box is put off at most."""
LOOK_AGAIN = 5.0
"""Seconds until the pool looks for itself what memory and demand are, also after a failure."""
IDLE_SECONDS = 2.0
"""Without a create, after which there is time for more than sandboxes."""
FREED_SECONDS = 0.2
"""Until the memory of kernels that end can be seen to be free."""
SPARE = 256 * 1024 * 1024
"""Bytes that must be there beyond a sandbox's need before the pool takes any."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What is kept ready, and between which bounds."""

    template: str
    limits: Limits
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class PoolState:
    """What a pool holds at a moment."""

    ready: int
    wanted: int
    warm: int
    memory_bytes: int


class Pool:
    """`run` keeps it filled until it is cancelled; `take` is for creates."""

    def __init__(
        self,
        plan: PoolPlan,
        boxes: Boxes,
        runtime: SandboxRuntime,
        registry: Registry,
        templates: Templates,
        machine: Admission,
        warmth: Warmth,
        busy: Callable[[], bool],
    ) -> None:
        """``busy`` tells whether a create is under way."""
        self._plan = plan
        self._boxes = boxes
        self._runtime = runtime
        self._registry = registry
        self._templates = templates
        self._machine = machine
        self._warmth = warmth
        self._busy = busy
        self._files: Path | None = None
        self._ready: dict[str, tuple[Record, asyncio.Task[None]]] = {}
        """By sandbox id, the oldest first; with the task that sees it die."""
        self._coming = 0
        self._waiting: deque[asyncio.Future[Record | None]] = deque()
        """Creates that get the box that is being made."""
        self._demand = Demand(plan.most)
        self._changed = asyncio.Event()
        self._last_take = -PATIENCE
        self._watchers = Tasks()

    # --- for creates --------------------------------------------------------------------

    async def take(self, template: str, limits: Limits) -> Record | None:
        """A box that differs from what is wanted in its template's name at most, or None.

        Its record says what the box was told. Waits for one that is being made already: it
        is further than a new one.
        """
        wanted = await self._templates.prepare(template, _log.info)
        if (wanted.directory, limits) != (self._files, self._plan.limits):
            return None
        self._demand.note()
        self._last_take = time.monotonic()
        self._changed.set()
        record = self._oldest() or await self._next()
        if record is not None:
            self._warmth.given_out(record)
        return record

    def _oldest(self) -> Record | None:
        for sandbox_id in self._ready:
            record, watcher = self._ready.pop(sandbox_id)
            watcher.cancel()
            return record
        return None

    def _boxes_ready(self) -> list[Record]:
        return [record for record, _ in self._ready.values()]

    async def _next(self) -> Record | None:
        if self._coming <= len(self._waiting):
            return None
        waiting: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and (record := waiting.result()):
                self._keep(record)
            raise
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def look_again(self) -> None:
        """Something has changed that the pool should know of, as memory that is short."""
        self._changed.set()

    def state(self) -> PoolState:
        boxes = self._boxes_ready()
        warm = sum(record in self._warmth for record in boxes)
        memory = sum(map(self._memory_of, boxes))
        return PoolState(len(boxes), self.wanted(), warm, memory)

    def _memory_of(self, record: Record) -> int:
        used = self._runtime.memory_bytes(record.live_box)
        if used is not None:
            return used
        return PLEDGE + (self._warmth.pledge if record in self._warmth else 0)

    # --- keeping it filled --------------------------------------------------------------

    async def run(self) -> None:
        self._last_take = time.monotonic()
        try:
            while True:
                self._changed.clear()
                try:
                    await self._settle()
                    await self._start_more_languages()
                except Exception as error:
                    _log.warning("no sandbox could be made ready: %s", error)
                    await asyncio.sleep(LOOK_AGAIN)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS if self._cold() else LOOK_AGAIN):
                        await self._changed.wait()
        finally:
            await self._watchers.close()
            await self._warmth.close()

    def wanted(self) -> int:
        """How many boxes there should be, as the last minute was."""
        return min(max(self._plan.least, self._demand.peak()), self._plan.most)

    async def _settle(self) -> None:
        plan = self._plan
        self._files = (await self._templates.prepare(plan.template, _log.info)).directory
        while len(self._ready) < self.wanted():
            await self._until_quiet()
            if self._machine.shortage(plan.limits, spare=SPARE):
                break
            await self._make_one()
        while self._ready and (
            len(self._ready) > self.wanted() or self._machine.shortage(plan.limits)
        ):
            if not await self._end_more_languages():
                await self._give_back()

    # --- other languages than Python ----------------------------------------------------

    def _cold(self) -> Record | None:
        """The box that is taken next, if more could be started in it."""
        first = next(iter(self._boxes_ready()), None)
        if first is None or first in self._warmth or not self._warmth.languages:
            return None
        return first

    async def _start_more_languages(self) -> None:
        """In one box, if nothing else is to do: no create is to wait for it."""
        cold = self._cold()
        idle = not self._busy() and time.monotonic() >= self._last_take + IDLE_SECONDS
        spare = SPARE + self._warmth.pledge
        if cold is not None and idle and not self._machine.shortage(self._plan.limits, spare=spare):
            await self._warmth.start_in(cold)

    async def _end_more_languages(self) -> bool:
        """When memory is short: they go before whole boxes do. False if there are none."""
        warm = [record for record in self._boxes_ready() if record in self._warmth]
        if not warm or not self._machine.shortage(self._plan.limits):
            return False
        for record in warm:
            await self._warmth.end_in(record)
        await asyncio.sleep(FREED_SECONDS)
        return True

    async def _until_quiet(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while (now := time.monotonic()) < deadline:
            if not self._busy() and now >= self._last_take + QUIET_SECONDS:
                return
            await asyncio.sleep(QUIET_SECONDS)

    async def _make_one(self) -> None:
        self._coming += 1
        record = None
        try:
            with self._machine.making():
                record = await self._made()
        finally:
            self._coming -= 1
            if record is not None:
                self._keep(record)
            for waiting in self._waiting:  # nothing comes any more
                if not waiting.done():
                    waiting.set_result(None)

    async def _made(self) -> Record:
        """A box that has its token already, so that most creates have nothing to tell it."""
        async with self._boxes.turn():
            made = await self._boxes.make(self._plan.template, self._plan.limits)
            try:
                record = replace(made.moved(Phase.POOLED), access_token=new_token())
                await self._boxes.introduce(record, wake=not self._waiting)
                await self._registry.put(record)
            except BaseException:
                await self._boxes.discard_shielded(made)
                raise
        return record

    def _keep(self, record: Record) -> None:
        """For who waits first, else for later."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(record)
                return
        watcher = self._watchers.spawn(self._see_it_die(record), f"watch {record.sandbox_id}")
        self._ready[record.sandbox_id] = record, watcher

    async def _see_it_die(self, record: Record) -> None:
        await self._runtime.wait(record.live_box)
        if self._ready.pop(record.sandbox_id, None) is not None:
            self._warmth.forget(record)
            _log.warning("a sandbox that was kept ready has died by itself")
            self._changed.set()
            await self._boxes.discard_shielded(record)

    async def _give_back(self) -> None:
        """One box less: its memory is worth more than its readiness."""
        record = self._oldest()
        if record is not None:
            self._warmth.forget(record)
            _log.info("a sandbox that was kept ready ends: %d are left", len(self._ready))
            await self._boxes.discard_shielded(record)
