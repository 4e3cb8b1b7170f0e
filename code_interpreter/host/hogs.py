"""Sandboxes that keep the processor busy come after those that want it now and then.

Sandboxes weigh the same, so the steps of a cell, some of which take microseconds, would each
wait for a neighbour's hundred busy processes. What has used much of late therefore comes last
until it is calm again, as in a multilevel feedback queue: it gets all that nobody else wants,
and shares with its like as before. Meanwhile all sandboxes together count for less, too, or the
host and its clients would wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass

from code_interpreter.host.cgroups import Cgroups

INTERVAL = 0.05
"""Seconds between two looks, while sandboxes are at work."""
CALM_INTERVAL = 0.2
"""Seconds, while none is."""
PART = 0.05
"""Of one core at most goes into looking: with many busy sandboxes it is done less often."""
AFTER_FAILURE = 5.0
"""Seconds until it is tried again."""
END_DEADLINE = 1.0
"""Seconds for the look that is under way."""
BUSY = 0.5
"""Cores: what uses more, as a mean of late, is a hog."""
CALM = 0.25
"""Cores: what uses less is none any more."""
_REMEMBERED = 0.5
"""How much of what it used before counts at the next look."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """A sandbox at the latest look."""

    used: float
    """Seconds of processor time."""
    weighs_less: bool
    level: float = 0.0
    """Cores that it uses."""


class Hogs:
    """Watches all sandboxes of a host, in a thread: the event loop may be busy itself."""

    def __init__(self, cgroups: Cgroups, *, cores: int) -> None:
        """``cores``: for as many processes all sandboxes count while none of them is a hog."""
        self._cgroups = cgroups
        self._cores = cores
        self._told: tuple[bool, int] | None = None
        """Whether all of them weigh less, and how many are in groups of an earlier host."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._boxes: dict[str, _Seen] = {}
        self._used, self._at = 0.0, 0.0

    def start(self) -> None:
        """Does nothing where processor time is not counted or weighed by control group."""
        if self._cgroups.weighs:
            self._thread = threading.Thread(target=self._watch, name="hogs", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Look no more; who lives on counts as usual."""
        if not self._ended.is_set():
            await asyncio.to_thread(self._end)
            self._weigh_all(less=False)

    def hasten(self) -> None:
        """Look no more, and let all of them count for more: they are to end."""
        self._end()
        self._cgroups.hasten(cores=self._cores)

    def _end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_DEADLINE)

    def _watch(self) -> None:
        pause = INTERVAL
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                calm = self.look()
            except OSError as error:  # it may pass, and every cell of a neighbour would wait
                _log.warning("cannot see which sandboxes keep the processor busy: %s", error)
                pause = AFTER_FAILURE
                continue
            usual = CALM_INTERVAL if calm else INTERVAL
            pause = max(usual, (time.monotonic() - began) / PART)

    def look(self) -> bool:
        """Whether all of them together are calm. If not, it is looked at each of them."""
        now, used = time.monotonic(), self._cgroups.all_cpu_seconds()
        seconds, before = now - self._at, self._used
        self._used, self._at = used, now
        if used - before < CALM * seconds and not any(s.weighs_less for s in self._boxes.values()):
            self._boxes.clear()
            self._weigh_all(less=False)
            return True
        names = self._cgroups.names()
        self._boxes = {
            name: seen for name in names if (seen := self._seen(name, seconds)) is not None
        }
        self._weigh_all(less=any(seen.weighs_less for seen in self._boxes.values()))
        return False

    def _weigh_all(self, *, less: bool) -> None:
        wanted = less, len(self._cgroups.elsewhere)
        if wanted != self._told:
            self._told = wanted
            self._cgroups.weigh_all(less=less, cores=self._cores)

    def _seen(self, name: str, seconds: float) -> _Seen | None:
        """None: it is gone."""
        used = self._cgroups.cpu_seconds(name)
        if used is None:
            return None
        seen = self._boxes.get(name)
        if seen is None:
            return _Seen(used, weighs_less=self._cgroups.weighs_less(name))
        latest = (used - seen.used) / seconds
        seen.used = used
        seen.level = max(latest, 0.0) * (1 - _REMEMBERED) + seen.level * _REMEMBERED
        less = seen.level > (CALM if seen.weighs_less else BUSY)
        if less is not seen.weighs_less:
            seen.weighs_less = less
            self._cgroups.weigh(name, less=less)
        return seen
