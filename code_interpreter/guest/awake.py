"""A clock that stands still while the sandbox is paused.

The kernel's clocks go on in a frozen process, so time-outs would be over when it is thawed.
Whoever has timers here looks at the clock every `STEP` seconds: a step that took far longer
than that was a pause, and counts as one step. A shorter pause counts in full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STEP = 1.0
LATE = 1.0
"""Seconds that a step may take longer because the machine is busy."""


class AwakeTimer:
    """Calls back once, at a time of its clock."""

    def __init__(self, when: float, call: Callable[[], object], clock: AwakeClock) -> None:
        self.when = when
        self.call = call
        self._clock = clock

    def cancel(self) -> None:
        self._clock.forget(self)


class AwakeClock:
    """Of one event loop. Without a timer nothing is looked at, and nothing wakes the process."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._slept = 0.0
        self._timers: set[AwakeTimer] = set()
        self._next: asyncio.TimerHandle | None = None

    def time(self) -> float:
        """Seconds, never going back. Pauses are left out while there are timers."""
        now = asyncio.get_running_loop().time()
        step = now - self._seen
        if self._timers and step > STEP + LATE:
            self._slept += step - STEP
        self._seen = now
        return now - self._slept

    def call_at(self, when: float, call: Callable[[], object]) -> AwakeTimer:
        """Have ``call`` called when `time` is ``when``."""
        self.time()
        timer = AwakeTimer(when, call, self)
        self._timers.add(timer)
        self._plan()
        return timer

    def forget(self, timer: AwakeTimer) -> None:
        self.time()
        self._timers.discard(timer)
        self._plan()

    def _plan(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._timers:
            first = min(timer.when for timer in self._timers) + self._slept
            soon = min(first, self._seen + STEP)
            self._next = asyncio.get_running_loop().call_at(soon, self._look)

    def _look(self) -> None:
        now = self.time()
        due = [timer for timer in self._timers if timer.when <= now]
        self._timers.difference_update(due)
        self._plan()
        for timer in sorted(due, key=lambda timer: timer.when):
            timer.call()
