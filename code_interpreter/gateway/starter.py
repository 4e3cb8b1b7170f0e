"""The line to the box's init, which forks warm kernels.

One datagram a request on a SOCK_SEQPACKET socket:
``{"op": "start", "request", "cwd", "env", "connection"}`` is answered by
``{"request", "pid"}`` or ``{"request", "error", "errno"}``; later comes
``{"exited", "exit_code", "signal", "cpu_seconds", "peak_memory_bytes"}``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import uuid
from collections.abc import Callable
from typing import Any

from code_interpreter.gateway.kernel_end import KernelEnd, Usage

START_DEADLINE = 10.0
"""Seconds that init has to answer."""
_MESSAGE = 1 << 20

log = logging.getLogger(__name__)


class KernelStarter:
    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._answers: dict[str, asyncio.Future[int]] = {}
        self._running: dict[int, Callable[[KernelEnd], None]] = {}
        self._early: dict[int, KernelEnd] = {}
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    async def start(
        self,
        connection: dict[str, Any],
        cwd: str,
        env: dict[str, str],
        ended: Callable[[KernelEnd], None],
    ) -> int:
        """The pid of a fresh kernel; ``ended`` is called when it is gone. Raises OSError."""
        request = uuid.uuid4().hex
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers[request] = answer
        message = {"op": "start", "request": request, "cwd": cwd, "env": env}
        try:
            self._socket.send(json.dumps({**message, "connection": connection}).encode())
            async with asyncio.timeout(START_DEADLINE):
                pid = await answer
        finally:
            del self._answers[request]
        self._running[pid] = ended
        if pid in self._early:
            self._exited(pid, self._early.pop(pid))
        return pid

    def watch(self, pid: int, ended: Callable[[KernelEnd], None]) -> None:
        """Have ``ended`` called for a kernel that was started before this object was made."""
        self._running[pid] = ended

    def _read(self) -> None:
        try:
            data = self._socket.recv(_MESSAGE)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            log.error("init has closed the line")
            return
        message = json.loads(data)
        if "exited" in message:
            usage = Usage(message.get("cpu_seconds"), message.get("peak_memory_bytes"))
            end = KernelEnd(message.get("exit_code"), message.get("signal"), usage=usage)
            self._exited(message["exited"], end)
        else:
            self._answered(message)

    def _answered(self, message: dict[str, Any]) -> None:
        answer = self._answers.get(message["request"])
        if answer is None or answer.done():
            return
        if "pid" in message:
            answer.set_result(message["pid"])
        else:
            answer.set_exception(OSError(message.get("errno") or 0, message["error"]))

    def _exited(self, pid: int, end: KernelEnd) -> None:
        ended = self._running.pop(pid, None)
        if ended is None:
            self._early[pid] = end
        else:
            ended(end)
