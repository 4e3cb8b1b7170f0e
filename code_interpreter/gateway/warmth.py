"""What the gateway goes through once so that its forks find everything in memory and in use.

Memory that is written after a fork is a copy of its own; what is made before is shared.
"""

from __future__ import annotations

import asyncio
import socket

import zmq
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from code_interpreter.gateway.main import make_application

DEADLINE = 10.0
"""Seconds for one request."""
TIMES = 30
"""Python rewrites code (its counters and caches) for a while until it lets it be."""


def warm_up() -> None:
    """Answer requests over a pair of sockets; no thread, kernel or file is made."""
    for _ in range(TIMES):
        asyncio.run(_answer_once())
    _make_annotations()


def _make_annotations() -> None:
    """pyzmq looks at them whenever it sets an option, in kernels too.

    A class has none until it is asked; getting them writes to it and to all its subclasses.
    """
    for kind in (zmq.Context, zmq.Socket):
        for each in kind.__mro__:
            getattr(each, "__annotations__", None)


async def _answer_once() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    server = HTTPServer(make_application(None))
    server.handle_stream(IOStream(theirs), ("sandbox", 0))
    loop = asyncio.get_running_loop()
    request = b"GET /health HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n"
    with ours:
        async with asyncio.timeout(DEADLINE):
            await loop.sock_sendall(ours, request)
            while await loop.sock_recv(ours, 4096):
                pass
    await server.close_all_connections()
