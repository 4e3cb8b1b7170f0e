"""A kernel's ZeroMQ sockets inside the event loop.

Leaner than jupyter_client's channels: one callback a message, no queue, no thread, no
future. https://libzmq.readthedocs.io/en/latest/zmq_getsockopt.html (ZMQ_FD) tells why each
socket is read until it is empty, also after sending.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import zmq

from code_interpreter.gateway.message import BadMessage, Codec, KernelMessage

TURN_SECONDS = 0.001
"""Time after which a busy kernel lets the others have their turn."""

Receive = Callable[[str, KernelMessage], None]
"""Called with the channel's name (``shell``, ``iopub``, ``stdin``, ``control``)."""

log = logging.getLogger(__name__)


class Channels:
    """Connects to the sockets that a connection file's content names."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        connection: dict[str, Any],
        receive: Receive,
        high_water: int,
    ) -> None:
        """``high_water``: output messages that may wait here before the kernel has to."""
        self._high_water = high_water
        self.codec = Codec(connection["key"])
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._identity = os.urandom(8).hex().encode()
        self._sockets = {
            name: self._connect(context, connection, name)
            for name in ("shell", "iopub", "stdin", "control")
        }
        for name, socket in self._sockets.items():
            self._loop.add_reader(_option(socket, zmq.FD), self._drain, name)

    def _connect(
        self, context: zmq.Context[zmq.Socket[bytes]], connection: dict[str, Any], name: str
    ) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.SUB if name == "iopub" else zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.RECONNECT_IVL, 5)  # the kernel binds when it is ready, we are early
        if name == "iopub":
            socket.rcvhwm = self._high_water
            socket.subscribe(b"")
        else:
            socket.setsockopt(zmq.IDENTITY, self._identity)
        separator = "-" if connection["transport"] == "ipc" else ":"
        socket.connect(
            f"{connection['transport']}://{connection['ip']}{separator}{connection[name + '_port']}"
        )
        return socket

    def send(
        self,
        channel: str,
        message_type: str,
        content: dict[str, Any],
        *,
        metadata: dict[str, Any] | None = None,
        parent: dict[str, Any] | None = None,
    ) -> str:
        """Send a request and return its ``msg_id``."""
        message_id, frames = self.codec.request(
            message_type, content, metadata=metadata, parent=parent
        )
        self.send_frames(channel, frames)
        return message_id

    def send_frames(self, channel: str, frames: list[bytes]) -> None:
        """Raises zmq.Again if the kernel has stopped reading long ago."""
        self._sockets[channel].send_multipart(frames, zmq.NOBLOCK)
        self._loop.call_soon(self._drain, channel)

    def drain(self) -> None:
        """Take in everything that has arrived, whatever it takes."""
        for name in self._sockets:
            self._drain(name, turn=None)

    def _drain(self, name: str, turn: float | None = TURN_SECONDS) -> None:
        socket = self._sockets.get(name)
        if socket is None:
            return
        until = None if turn is None else time.monotonic() + turn
        while not socket.closed:
            if until is not None and time.monotonic() > until:
                self._loop.call_soon(self._drain, name)
                return
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(name, frames)

    def _take(self, name: str, frames: list[bytes]) -> None:
        """Whatever it is: what comes after it must be read, or nobody hears of it any more."""
        try:
            self._receive(name, self.codec.read(frames))
        except BadMessage as error:
            log.warning("message dropped: %s", error)
        except Exception:
            log.exception("message dropped")

    def close(self) -> None:
        for socket in self._sockets.values():
            self._loop.remove_reader(_option(socket, zmq.FD))
            socket.close()
        self._sockets = {}


def _option(socket: zmq.Socket[bytes], option: int) -> int:
    value = socket.getsockopt(option)
    assert isinstance(value, int)
    return value
