"""How many sandboxes are asked for at once, as the last minute has seen it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

BURST_SECONDS = 1.0
"""Calls so close together want their sandboxes at the same time."""
MEMORY_SECONDS = 60.0
"""How long a burst is reckoned with to come again."""


class Demand:
    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``most``: above it, nobody needs to know how many there were."""
        self._most = most
        self._clock = clock
        self._recent: deque[float] = deque()
        self._bursts: deque[tuple[float, int]] = deque()
        """When, and how many: only those that no later one has outdone."""

    def note(self) -> None:
        """One more was asked for."""
        now = self._clock()
        self._recent.append(now)
        while self._recent[0] <= now - BURST_SECONDS or len(self._recent) > self._most:
            self._recent.popleft()
        size = len(self._recent)
        while self._bursts and self._bursts[-1][1] <= size:
            self._bursts.pop()
        self._bursts.append((now, size))

    def peak(self) -> int:
        """Of the busiest second that is still remembered."""
        while self._bursts and self._bursts[0][0] <= self._clock() - MEMORY_SECONDS:
            self._bursts.popleft()
        return self._bursts[0][1] if self._bursts else 0
