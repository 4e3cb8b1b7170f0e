"""Opens connections to servers inside the sandbox, for the host.

A sandbox has a network of its own that the host is not part of. The host connects to
this unix socket, sends the port as decimal digits and a newline, and gets back one byte,
``+`` together with a connected TCP socket as a passed descriptor, or ``-``: nothing
listens there. Then the connection is closed; the bytes of the user's server go through
the passed descriptor alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

HOSTS = ("127.0.0.1", "::1")
"""Tried in this order: development servers listen on either."""
DEADLINE = 5.0
"""Seconds for one request, from the first byte to the answer."""


async def serve_ports(listener: socket.socket) -> None:
    """Answer requests until cancelled."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    async with asyncio.TaskGroup() as group:
        while True:
            peer, _ = await loop.sock_accept(listener)
            group.create_task(_answer(peer))


async def _answer(peer: socket.socket) -> None:
    with peer, contextlib.suppress(OSError, ValueError, TimeoutError):
        peer.setblocking(False)
        async with asyncio.timeout(DEADLINE):
            port = await _read_port(peer)
            connection = await _connect(port)
        if connection is None:
            peer.send(b"-")
            return
        with connection:
            socket.send_fds(peer, [b"+"], [connection.fileno()])


async def _read_port(peer: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    request = b""
    while not request.endswith(b"\n") and len(request) < 8:
        piece = await loop.sock_recv(peer, 8)
        if not piece:
            break
        request += piece
    return int(request)


async def _connect(port: int) -> socket.socket | None:
    loop = asyncio.get_running_loop()
    for host in HOSTS:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, (host, port))
        except OSError:
            connection.close()
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    return None
