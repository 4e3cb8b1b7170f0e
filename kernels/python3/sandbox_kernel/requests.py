"""Reads the shell socket inside the event loop, without ZMQStream's turns in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

import zmq

Handle = Callable[[list[Any]], Coroutine[Any, Any, None]]


class ShellRequests:
    """Hands each request to ``handle``, a coroutine function, as a task of its own.

    The kernel lets them in one by one, but for comm messages, which may overtake a cell
    that awaits something. All tasks share one context, so that context variables which a
    cell sets are there in the next.
    """

    def __init__(self, socket: zmq.Socket[bytes], handle: Handle) -> None:
        self._socket = socket
        self._handle = handle
        self._context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.add_reader(self._socket.getsockopt(zmq.FD), self._read)
        self._read()

    def _read(self) -> None:
        while self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            message: list[Any] = self._socket.recv_multipart(copy=False)
            task = self._loop.create_task(self._handle(message), context=self._context)
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Sending the reply may have taken the descriptor's only notice of new requests.
        self._read()
