"""What a gateway does before its introduction, so that less is left for afterwards.

The first sockets to a kernel start threads, and memory that is written to for the first time
is copied, as far as that was not done ahead (`guest/copying_ahead.py`). A sandbox that is
made ahead has time for it: its gateway talks to a kernel and to a client that are both itself.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from code_interpreter.gateway.channels import Channels
from code_interpreter.gateway.message import KernelMessage
from code_interpreter.gateway.provisioners import WarmProvisioner
from code_interpreter.protocol.executions import PATH, SUBPROTOCOL

DEADLINE = 2.0
"""Seconds; the rest is done when it is needed."""
_CHANNELS = ("shell", "iopub", "stdin", "control")


async def rehearse(
    server: HTTPServer, sockets: zmq.Context[zmq.Socket[bytes]], directory: Path
) -> None:
    """One message to a kernel and back, and one WebSocket. Raises TimeoutError and OSError."""
    async with asyncio.timeout(DEADLINE):
        with tempfile.TemporaryDirectory(dir=directory) as place:
            await _talk_to_a_kernel(sockets, place)
        await _open_websocket(server)


async def _talk_to_a_kernel(sockets: zmq.Context[zmq.Socket[bytes]], place: str) -> None:
    WarmProvisioner()
    connection: dict[str, Any] = {
        "transport": "ipc",
        "ip": f"{place}/k",
        "key": secrets.token_hex(32),
        **{f"{name}_port": port for port, name in enumerate(_CHANNELS)},
    }
    kernel = {name: _bound(sockets, connection, name) for name in _CHANNELS}
    heard = asyncio.Event()

    def hear(channel: str, message: KernelMessage) -> None:
        heard.set()

    channels = Channels(sockets, connection, hear, high_water=1)
    try:
        channels.send("shell", "kernel_info_request", {})
        request = await kernel["shell"].recv_multipart()
        await kernel["shell"].send_multipart(request)
        await heard.wait()
    finally:
        channels.close()
        for end in kernel.values():
            end.close(linger=0)


def _bound(
    sockets: zmq.Context[zmq.Socket[bytes]], connection: dict[str, Any], name: str
) -> zmq.asyncio.Socket:
    end = zmq.asyncio.Socket(sockets, zmq.PUB if name == "iopub" else zmq.ROUTER)
    end.bind(f"ipc://{connection['ip']}-{connection[name + '_port']}")
    return end


async def _open_websocket(server: HTTPServer) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    server.handle_stream(IOStream(theirs), ("", 0))
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(opening_handshake())
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise ConnectionRefusedError(f"no WebSocket, but {answer.splitlines()[0]!r}")


def opening_handshake() -> bytes:
    """Of a client of executions: RFC 6455, 4.1."""
    lines = (
        f"GET {PATH} HTTP/1.1",
        "Host: sandbox",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: d2FybS13YXJtLXdhcm0hIQ==",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()
