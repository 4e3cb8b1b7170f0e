"""envd's HTTP server: uvicorn's, without its ten turns a second, and with an end when idle.

A sandbox of which only the kernels are used needs no envd. One that nobody has needed for
a while ends; init waits at its sockets, and starts the next one for the next connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from types import FrameType

import uvicorn


class Server(uvicorn.Server):
    """``in_use`` tells whether something is kept that a successor would not know of.

    ``idle_seconds``: without a request for so long, at most twice as long, the process ends
    with status 0; None: never.
    """

    def __init__(
        self, config: uvicorn.Config, in_use: Callable[[], bool], idle_seconds: float | None
    ) -> None:
        super().__init__(config)
        self._in_use = in_use
        self._idle_seconds = idle_seconds
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._seen: object = None

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self._is_unneeded()  # the first look
        while not self.should_exit:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    await self._ending.wait()
            except TimeoutError:
                if self._is_unneeded():
                    os._exit(0)  # at once: what is accepted after the look would be lost

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._ending.set)

    def _is_unneeded(self) -> bool:
        """Nobody was here since the last look, nobody is, and nothing is held for anybody.

        A connection that was accepted, and that nobody knows of yet, has a descriptor.
        """
        seen = (self.server_state.total_requests, _descriptors())
        before, self._seen = self._seen, seen
        return seen == before and not self.server_state.connections and not self._in_use()


def _descriptors() -> frozenset[str]:
    names = []
    for name in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # that of the listing itself
        except OSError:  # a directory deeper than a path may be long
            names.append(name)
    return frozenset(names)
