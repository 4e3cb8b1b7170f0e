"""One timer for all sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from code_interpreter.host.records import Record, now
from code_interpreter.host.tasks import Tasks

LONGEST_SLEEP = 30.0
"""Seconds between looks at the clock, which may have been set meanwhile."""


class Expiry:
    """Calls ``expire`` for each sandbox whose end has come, beside the others."""

    def __init__(
        self,
        candidates: Callable[[], Iterable[Record]],
        tasks: Tasks,
        expire: Callable[[str], Coroutine[Any, Any, None]],
    ) -> None:
        self._candidates = candidates
        self._tasks = tasks
        self._expire = expire
        self._changed = asyncio.Event()
        self._expiring: set[str] = set()

    def changed(self) -> None:
        """A sandbox came, or its end moved."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            waiting = [r for r in self._candidates() if r.sandbox_id not in self._expiring]
            moment = now()
            for record in waiting:
                if record.end_at <= moment:
                    self._begin(record.sandbox_id)
            later = [(r.end_at - moment).total_seconds() for r in waiting if r.end_at > moment]
            await self._sleep(min([LONGEST_SLEEP, *later]))

    def _begin(self, sandbox_id: str) -> None:
        self._expiring.add(sandbox_id)
        task = self._tasks.spawn(self._expire(sandbox_id), f"expiry of {sandbox_id}")
        task.add_done_callback(lambda _: self._ended(sandbox_id))

    def _ended(self, sandbox_id: str) -> None:
        self._expiring.discard(sandbox_id)
        self._changed.set()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
