"""Connections from the edge to the servers behind it, opened, reused and closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeAlias, cast

from code_interpreter.host.edge_address import ENVD_PORT, GATEWAY_PORT
from code_interpreter.host.edge_http import (
    Malformed,
    RequestHead,
    ResponseEvent,
    ResponseReader,
)
from code_interpreter.host.runtimes.base import ENVD_SOCKET, GATEWAY_SOCKET, PORTS_SOCKET

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 4.0
"""Servers close idle connections after 5 seconds or more (uvicorn, Node); be earlier."""
MAX_IDLE = 8
"""Connections kept to one server."""
WRITE_BUFFER_BYTES = 256 * 1024

Key: TypeAlias = tuple[str, int]
"""Sandbox id and port; the API's has no id."""

SUPERVISOR_SOCKETS = {ENVD_PORT: ENVD_SOCKET, GATEWAY_PORT: GATEWAY_SOCKET}

_UNIX_PATH_BYTES = 107
_QUEUE_PAUSE = 0.005


class PortClosed(Exception):
    """Nothing listens on the port inside the sandbox."""


class Owner(Protocol):
    """The client connection that an upstream works for."""

    def upstream_events(self, events: list[ResponseEvent]) -> None:
        """Events of the response, in order."""

    def upstream_bytes(self, data: bytes) -> None:
        """Bytes of the other protocol, after a switch."""

    def upstream_ended(self) -> None:
        """The server sends nothing more over the other protocol."""

    def upstream_lost(self, reason: str, *, cleanly: bool) -> None:
        """The connection is gone, for whatever reason; comes once, and last."""

    def pause_upload(self) -> None:
        """The server does not read: stop sending."""

    def resume_upload(self) -> None:
        """The server reads again."""


class Upstream(asyncio.Protocol):
    """One connection to a server; works for one client at a time."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.used = False
        """It carried a request before: the server may have closed it meanwhile."""
        self.idle_since = 0.0
        self.switched = False
        """From HTTP to another protocol."""
        self._owner: Owner | None = None
        self._reader: ResponseReader | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's class.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    @property
    def closed(self) -> bool:
        return self.transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Both messages are complete, and the server will read another."""
        whole = self.transport.get_write_buffer_size() == 0
        return self._reader is not None and self._reader.reusable and whole and not self.closed

    def begin(self, owner: Owner, head: RequestHead) -> None:
        """Work for ``owner`` until `release` or `abort`."""
        self._owner = owner
        self._reader = ResponseReader(to_head=head.method == b"HEAD")

    def release(self) -> None:
        """The response is complete; the connection may wait for another request."""
        self._owner = None
        self.used = True
        self.idle_since = time.monotonic()
        self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once; the owner hears nothing more."""
        self._owner = None
        self.transport.abort()

    def finish(self) -> None:
        """Close once everything written is sent; the owner hears nothing more."""
        self._owner = None
        self.transport.close()

    def switch_protocols(self) -> bytes:
        """Read no more HTTP; returns what came after the head."""
        assert self._reader is not None
        self.switched = True
        return self._reader.rest

    def data_received(self, data: bytes) -> None:
        if self._owner is None or self._reader is None:
            self.transport.abort()  # an idle server has nothing to say
        elif self.switched:
            self._owner.upstream_bytes(data)
        else:
            self._read(self._owner, self._reader, data)

    def _read(self, owner: Owner, reader: ResponseReader, data: bytes) -> None:
        try:
            events = reader.feed(data)
        except Malformed as error:
            self._lose(str(error), cleanly=False)
            self.transport.abort()
            return
        if events:
            owner.upstream_events(events)

    def eof_received(self) -> bool:
        if self.switched and self._owner is not None:
            self._owner.upstream_ended()
            return True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        reason = str(error) if error else "it closed the connection"
        self._lose(reason, cleanly=error is None)

    def _lose(self, reason: str, *, cleanly: bool) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.upstream_lost(reason, cleanly=cleanly)

    def pause_writing(self) -> None:
        if self._owner is not None:
            self._owner.pause_upload()

    def resume_writing(self) -> None:
        if self._owner is not None:
            self._owner.resume_upload()


class UpstreamPool:
    """Opens connections, and keeps the idle ones for the next request to the same server."""

    def __init__(self) -> None:
        self._idle: dict[Key, list[Upstream]] = {}

    def take(self, key: Key) -> Upstream | None:
        """An idle connection, the one used last; None if there is none."""
        idle = self._idle.get(key)
        while idle:
            upstream = idle.pop()
            if not upstream.closed and time.monotonic() - upstream.idle_since < IDLE_SECONDS:
                return upstream
            upstream.abort()
        return None

    def put_back(self, upstream: Upstream) -> None:
        """After a complete response; closes it where it cannot be used again."""
        idle = self._idle.setdefault(upstream.key, [])
        if not upstream.reusable or len(idle) >= MAX_IDLE:
            upstream.abort()
            return
        upstream.release()
        idle.append(upstream)

    def sweep(self) -> None:
        """Close what was idle for too long."""
        oldest = time.monotonic() - IDLE_SECONDS
        for key, idle in list(self._idle.items()):
            kept = [each for each in idle if each.idle_since > oldest and not each.closed]
            for upstream in idle:
                if upstream not in kept:
                    upstream.abort()
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]

    def drop(self, sandbox_id: str) -> None:
        """Close the idle connections into a sandbox."""
        for key in [key for key in self._idle if key[0] == sandbox_id]:
            for upstream in self._idle.pop(key):
                upstream.abort()

    def close(self) -> None:
        for idle in self._idle.values():
            for upstream in idle:
                upstream.abort()
        self._idle.clear()


async def open_unix(path: Path, key: Key) -> Upstream:
    """Connect to a unix socket, however long its path. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_SECONDS):
        connection = await _connect(path)
        try:
            _, upstream = await loop.create_unix_connection(lambda: Upstream(key), sock=connection)
        except BaseException:
            connection.close()
            raise
    return upstream


async def open_sandbox_port(run_directory: Path, key: Key) -> Upstream:
    """Connect to envd, to the gateway, or to whatever listens inside on another port.

    Raises `PortClosed`, OSError (the box is gone), TimeoutError.
    """
    name = SUPERVISOR_SOCKETS.get(key[1])
    if name is not None:
        return await open_unix(run_directory / name, key)
    async with asyncio.timeout(CONNECT_SECONDS):
        connection = await _ask_for_port(run_directory / PORTS_SOCKET, key[1])
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            _, upstream = await loop.create_connection(lambda: Upstream(key), sock=connection)
        except BaseException:
            connection.close()
            raise
    return upstream


async def _connect(path: Path) -> socket.socket:
    """A connection to a unix socket, once there is room in its queue.

    Event loops take a full queue for an error (uvloop) or for a connection (asyncio).
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        with _short(path) as reachable:
            while True:
                try:
                    connection.connect(reachable)
                    return connection
                except BlockingIOError:
                    await asyncio.sleep(_QUEUE_PAUSE)
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path, or another that fits into a socket address and leads to the same socket."""
    if len(os.fsencode(path)) <= _UNIX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


async def _ask_for_port(path: Path, port: int) -> socket.socket:
    """A connection made by `code_interpreter.guest.ports` inside the sandbox."""
    loop = asyncio.get_running_loop()
    with await _connect(path) as asker:
        await loop.sock_sendall(asker, b"%d\n" % port)
        await _readable(asker)
        answer, descriptors, _, _ = socket.recv_fds(asker, 1, 1)
    with contextlib.ExitStack() as unwanted:
        for descriptor in descriptors:
            unwanted.callback(os.close, descriptor)
        if answer == b"-":
            raise PortClosed
        if answer != b"+" or not descriptors:
            raise ConnectionError("the sandbox closed the connection")
        connection = _as_connection(descriptors[0])
        unwanted.pop_all()
    return connection


def _as_connection(descriptor: int) -> socket.socket:
    """What the sandbox has passed, which may be anything. Raises OSError; then it is not taken."""
    connection = socket.socket(fileno=descriptor)
    streams = connection.type == socket.SOCK_STREAM
    if not streams or connection.family not in (socket.AF_INET, socket.AF_INET6):
        connection.detach()
        raise ConnectionError("the sandbox passed something that is no connection")
    connection.setblocking(False)
    return connection


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection.fileno(), on_ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())
