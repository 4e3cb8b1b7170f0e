"""The ends of a process's pipes, or of its terminal, on this side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

CHUNK = 32 * 1024
TERMINAL_CHUNK = 16 * 1024
WRITE_DEADLINE = 60.0
"""Seconds that a process has to take what is written to it."""


class InputRefused(ValueError):
    """Terminal input for pipes, or the other way round, or nobody reads it any more."""


class Outlet:
    """Reads a descriptor, which it owns, to its end."""

    def __init__(
        self,
        name: str,
        descriptor: int,
        on_data: Callable[[str, bytes], None],
        on_close: Callable[[Outlet], None],
    ) -> None:
        self._name = name
        self._descriptor = descriptor
        self._chunk = TERMINAL_CHUNK if name == "pty" else CHUNK
        self._on_data = on_data
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._paused = True
        self.resume()

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, self._chunk)
        except BlockingIOError:
            return
        except OSError:  # EIO: a terminal whose last process is gone
            data = b""
        if data:
            self._on_data(self._name, data)
            return
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._on_close(self)


class Inlet:
    """Writes to a descriptor, which it owns, one caller after the other."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def write(self, data: bytes) -> None:
        """All of it. Raises `InputRefused`, or TimeoutError after `WRITE_DEADLINE`."""
        async with asyncio.timeout(WRITE_DEADLINE):
            async with self._turn:
                await self._write_all(memoryview(data))

    async def _write_all(self, rest: memoryview) -> None:
        while rest:
            if self._descriptor is None:
                raise InputRefused("the process's stdin is closed")
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await self._writable(self._descriptor)
            except OSError as error:  # EPIPE, or EIO of a terminal
                raise InputRefused("the process does not read its stdin any more") from error

    async def _writable(self, descriptor: int) -> None:
        self._changed.clear()
        self._loop.add_writer(descriptor, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if self._descriptor is not None:
                self._loop.remove_writer(descriptor)

    def close(self) -> None:
        if self._descriptor is None:
            return
        self._loop.remove_writer(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None
        self._changed.set()
