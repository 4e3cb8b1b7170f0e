"""Whether the servers of a sandbox still live, when they keep somebody waiting in silence.

A command may be quiet for hours, and so is an envd that hangs. So whoever has been waiting
for a while has the edge ask the server for its health, on a connection of its own; any
answer will do. One that does not answer hangs: its callers are told so instead of waiting
on, and it is asked again every second until it does.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from code_interpreter.host.edge_upstream import SUPERVISOR_SOCKETS, Key
from code_interpreter.host.guest_link import GuestLink, GuestUnreachable
from code_interpreter.host.tasks import Tasks

PATIENCE: float = 50
"""Seconds of silence after which a server that does not answer hangs; less than the 60 that
E2B's clients wait for an answer."""
_SILENT_PART = 0.4
_PAUSE = 1.0
_log = logging.getLogger(__name__)


class Vigil:
    """Over the supervisors of all sandboxes. ``patience``: as `PATIENCE`."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.silence = patience * _SILENT_PART
        """Seconds after which somebody who waits shall call `look`."""
        self._deadline = patience - self.silence
        self._tasks = Tasks()
        self._looks: dict[Key, asyncio.Task[None]] = {}
        self._hung: set[Key] = set()

    def is_hung(self, key: Key) -> bool:
        return key in self._hung

    def watches(self, key: Key) -> bool:
        """Whether it is a server of ours; others may be as silent as they like."""
        return key[1] in SUPERVISOR_SOCKETS

    def look(self, key: Key, run_directory: Path) -> None:
        """Find out whether it hangs, unless that is being found out."""
        if key not in self._looks:
            name = f"health of {key[0]}:{key[1]}"
            self._looks[key] = self._tasks.spawn(self._look(key, run_directory), name)

    def forget(self, sandbox_id: str) -> None:
        """It is gone, or paused, and as quiet as it should be."""
        for key in [key for key in self._looks if key[0] == sandbox_id]:
            self._looks.pop(key).cancel()
        self._hung -= {key for key in self._hung if key[0] == sandbox_id}

    async def close(self) -> None:
        await self._tasks.close()

    async def _look(self, key: Key, run_directory: Path) -> None:
        while not await self._is_alive(key, run_directory):
            if key not in self._hung:
                _log.warning("the server on port %d of sandbox %s hangs", key[1], key[0])
                self._hung.add(key)
            await asyncio.sleep(_PAUSE)
        self._hung.discard(key)
        del self._looks[key]

    async def _is_alive(self, key: Key, run_directory: Path) -> bool:
        """One that is not there, or just being started again, does not hang."""
        try:
            async with asyncio.timeout(self._deadline):
                await GuestLink(run_directory).until_answered(SUPERVISOR_SOCKETS[key[1]])
        except TimeoutError:
            return False
        except GuestUnreachable:
            return True
        return True
