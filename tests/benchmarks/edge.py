"""What the edge adds to a request: the same server asked directly and through the edge."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import uvloop

from code_interpreter.host.edge import Edge, Route
from code_interpreter.host.runtimes.base import ENVD_SOCKET
from tests.benchmarks.samples import Row, Samples

REQUESTS = 3000
_BOX = "i1"
_REQUEST = (
    b"POST /process.Process/List HTTP/1.1\r\n"
    b"Host: 127.0.0.1\r\nE2b-Sandbox-Id: i1\r\nE2b-Sandbox-Port: 49983\r\n"
    b"X-Access-Token: 0123456789abcdef0123456789abcdef\r\n"
    b"User-Agent: connectrpc/0.12.1\r\nConnect-Protocol-Version: 1\r\n"
    b"Content-Type: application/json\r\nAccept-Encoding: identity\r\nAccept: */*\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: bench\r\n"
    b"Content-Length: 16\r\n\r\n" + b'{"processes":[]}'
)


class _Server(asyncio.Protocol):
    """Answers at once: what is measured is the way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"{}"):
            self._transport.write(_RESPONSE)  # type: ignore[attr-defined]


class _OneSandbox:
    def __init__(self, directory: Path) -> None:
        self._route = Route(_BOX, directory)

    def find(self, sandbox_id: str) -> Route | None:
        return self._route if sandbox_id == _BOX else None

    def find_by_signature(
        self,
        path: str,
        username: str | None,
        signature: str,
        expiration: int | None,
        operation: Literal["read", "write"],
    ) -> Route | None:
        return None

    def find_by_access_token(self, token: str) -> Route | None:
        return None

    async def wake(self, sandbox_id: str) -> None:
        pass


def _serve(directory: Path, ready: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_server(_Server, str(directory / ENVD_SOCKET))
        ready.send(0)
        await loop.create_future()

    uvloop.run(main())


def _forward(directory: Path, ready: Connection) -> None:
    async def main() -> None:
        edge = Edge(_OneSandbox(directory), directory / "api.sock")
        ready.send(await edge.serve("127.0.0.1", 0))
        await asyncio.get_running_loop().create_future()

    uvloop.run(main())


@contextmanager
def _process(target: object, directory: Path) -> Iterator[int]:
    """Runs beside us; yields what it reports once it is ready."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(directory, theirs), daemon=True)  # type: ignore[arg-type]
    process.start()
    try:
        yield int(ours.recv())
    finally:
        process.kill()
        process.join()


def _round_trip(connection: socket.socket) -> float:
    started = time.perf_counter()
    connection.sendall(_REQUEST)
    answer = connection.recv(65536)
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    return time.perf_counter() - started


def measure() -> list[Row]:
    """Direct and forwarded requests in turn, so that the machine's mood hits both."""
    direct, forwarded = Samples("server, directly"), Samples("server, through the edge")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with _process(_serve, directory), _process(_forward, directory) as port:
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as near,
                socket.create_connection(("127.0.0.1", port)) as far,
            ):
                near.connect(str(directory / ENVD_SOCKET))
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for number in range(REQUESTS + 200):
                    a, b = _round_trip(near), _round_trip(far)
                    if number >= 200:
                        direct.add(a)
                        forwarded.add(b)
    return [direct.row(), forwarded.row(baseline=direct, target="≤ 0.3 ms more at p50")]
