"""Waiting for a kernel's sockets to be there, without asking again and again.

A ZeroMQ socket that connects too early tries anew every few milliseconds, which takes
time from the very kernel that it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Self

from inotify_simple import INotify, flags

_CHANNELS = ("shell", "iopub", "stdin", "control")


class Arrival:
    """Made before the kernel is started, and closed when it has come.

    ::

        with Arrival(connection) as arrival:
            start(connection)
            await arrival.wait()
    """

    def __init__(self, connection: dict[str, Any]) -> None:
        """``connection``: a connection file's content. Only unix sockets can be waited for."""
        self._missing = {
            f"{Path(connection['ip']).name}-{connection[f'{channel}_port']}"
            for channel in _CHANNELS
        }
        self._come = asyncio.get_running_loop().create_future()
        self._inotify = INotify(nonblocking=True)
        try:
            self._inotify.add_watch(Path(connection["ip"]).parent, flags.CREATE)
        except BaseException:
            self._inotify.close()
            raise

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._inotify.fileno())
        self._inotify.close()

    def _read(self) -> None:
        self._missing -= {event.name for event in self._inotify.read()}
        if not self._missing and not self._come.done():
            self._come.set_result(None)

    async def wait(self, *endings: asyncio.Future[Any]) -> None:
        """Return when the sockets are bound, or any of ``endings`` is done."""
        await asyncio.wait([self._come, *endings], return_when=asyncio.FIRST_COMPLETED)


def arrival_of(connection: dict[str, Any]) -> contextlib.AbstractContextManager[Arrival | None]:
    """None where it cannot be waited for: then one connects, and connects again."""
    if connection["transport"] == "ipc":
        with contextlib.suppress(OSError):  # no inotify instance left for this user
            return Arrival(connection)
    return contextlib.nullcontext()
