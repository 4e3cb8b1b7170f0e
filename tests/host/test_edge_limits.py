"""What a client, or a server inside a sandbox, may not do to the edge or through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import uvloop

from code_interpreter.host import edge_client
from code_interpreter.host.edge_http import MAX_HEAD_BYTES
from code_interpreter.host.edge_upstream import open_unix
from code_interpreter.host.runtimes.base import ENVD_SOCKET
from tests.host.edge_world import BOX, World, world_in
from tests.host.test_edge_http import SMUGGLING

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as world:
        yield world


@contextlib.asynccontextmanager
async def user_server(port: int, handle: Handler) -> AsyncIterator[None]:
    """A server in the sandbox that does as it likes."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handle(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


def saying(answer: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return handle


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.security
@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_a_smuggled_request_reaches_nobody(world: World, data: bytes) -> None:
    answer = await world.raw(data + b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(answer) in (400, 405, 501, 505)
    assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
    assert "api GET /hidden" not in world.requests


async def test_requests_before_a_bad_one_are_answered(world: World) -> None:
    answer = await world.raw(b"GET /one HTTP/1.1\r\nHost: localhost\r\n\r\nGET bad\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]


async def test_a_body_that_breaks_off_in_nonsense(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(b"POST /hang HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    await asyncio.sleep(0.1)
    writer.write(b"nonsense\r\n")
    async with asyncio.timeout(5):
        assert status(await reader.read()) == 400
        await world.disconnected.wait()
    writer.close()


@pytest.mark.security
async def test_an_oversized_head(world: World) -> None:
    name = b"a" * 1000
    answer = await world.raw(
        b"GET / HTTP/1.1\r\nHost: localhost\r\n"
        + b"".join(b"x%d: %s\r\n" % (n, name) for n in range(MAX_HEAD_BYTES // 1000 + 10))
    )
    assert status(answer) == 431


@pytest.mark.security
async def test_a_head_that_never_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_client, "HEAD_SECONDS", 0.5)
    reader, writer = await world.connect()

    async def drip() -> None:
        for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(4):
        assert status(await reader.read()) == 408
    dripping.cancel()
    writer.close()


@pytest.mark.security
async def test_many_slow_clients_do_not_slow_others(world: World) -> None:
    slow = [await world.connect() for _ in range(200)]
    for _, writer in slow:
        writer.write(b"GET / HTTP/1.1\r\nHost:")
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
        assert (await client.get("/x")).status_code == 200
    assert loop.time() - started < 5
    for _, writer in slow:
        writer.close()


async def test_an_upload_into_a_server_that_does_not_read_is_held_back(
    world: World, unused_tcp_port: int
) -> None:
    closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        while await reader.read(2**20):
            pass
        closed.set()

    async with user_server(unused_tcp_port, handle):
        _, writer = await world.connect()
        headers = f"Host: localhost\r\nE2b-Sandbox-Id: {BOX}\r\nE2b-Sandbox-Port: {unused_tcp_port}"
        writer.write(f"POST / HTTP/1.1\r\n{headers}\r\nContent-Length: 99999999\r\n\r\n".encode())
        writer.write(bytes(30_000_000))
        await asyncio.sleep(0.3)
        (client,) = world.edge._clients
        assert not client._transport.is_reading()
        exchange = client._exchange
        assert exchange is not None
        assert exchange.upstream is not None
        assert exchange.upstream.transport.get_write_buffer_size() < 2**20
        writer.transport.abort()
        async with asyncio.timeout(3):
            await closed.wait()


async def test_a_client_that_leaves_while_it_is_held_back(world: World) -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()
        writer.transport.abort()

    (world.directory / ENVD_SOCKET).unlink()
    server = await asyncio.start_unix_server(handle, world.directory / ENVD_SOCKET)
    _, writer = await world.connect()
    headers = f"Host: 49983-{BOX}.localhost\r\nContent-Length: 99999999"
    writer.write(f"POST / HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        await writer.drain()
        await asyncio.sleep(0.05)
        (client,) = world.edge._clients
        while client._transport.is_reading():
            writer.write(bytes(50_000))
            await asyncio.sleep(0.01)
        writer.close()
        while world.edge._clients:
            await asyncio.sleep(0.05)
    gone.set()
    server.close()
    await asyncio.sleep(0.05)


@pytest.mark.security
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n",
        b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 X-Evil",
    ],
)
async def test_a_server_in_a_sandbox_cannot_answer_the_next_request(
    world: World, unused_tcp_port: int, answer: bytes
) -> None:
    """A client may use one connection for a sandbox and for the API."""
    headers = world.box_headers(unused_tcp_port)
    async with (
        user_server(unused_tcp_port, saying(answer)),
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{world.port}", limits=httpx.Limits(max_connections=1)
        ) as client,
    ):
        for _ in range(3):
            assert "x-evil" not in (await client.get("/", headers=headers)).headers
            assert (await client.get("/v2/sandboxes")).json()["server"] == "api"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
)
async def test_a_server_that_gives_no_answer(
    world: World, unused_tcp_port: int, answer: bytes
) -> None:
    async with user_server(unused_tcp_port, saying(answer)):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
            got = await client.get("/", headers=world.box_headers(unused_tcp_port))
    assert (got.status_code, got.json()["port"]) == (502, unused_tcp_port)
    assert "did not answer" in got.json()["message"]


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", True),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", True),
    ],
)
async def test_a_response_that_ends_early_does_not_look_whole(
    world: World, unused_tcp_port: int, answer: bytes, whole: bool
) -> None:
    async with user_server(unused_tcp_port, saying(answer)):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
            request = client.get("/", headers=world.box_headers(unused_tcp_port))
            if whole:
                assert (await request).text == "abc"
            else:
                with pytest.raises(httpx.RemoteProtocolError):
                    await request


async def test_a_server_that_was_restarted_is_found_again(
    world: World, unused_tcp_port: int
) -> None:
    answer = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
        for _ in range(5):
            async with user_server(unused_tcp_port, answer):
                got = await client.get("/", headers=world.box_headers(unused_tcp_port))
                assert got.status_code == 200


async def test_either_side_of_another_protocol_may_finish_first(
    world: World, unused_tcp_port: int
) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 S\r\nUpgrade: count\r\nConnection: upgrade\r\n\r\n")
        writer.write(b"%d" % len(await reader.read()))

    headers = f"Host: {unused_tcp_port}-{BOX}.localhost\r\nConnection: upgrade\r\nUpgrade: count"
    async with user_server(unused_tcp_port, count):
        reader, writer = await world.connect()
        writer.write(f"GET / HTTP/1.1\r\n{headers}\r\n\r\n".encode() + b"early")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes(5_000_000))
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b"5000005"
        writer.close()


async def test_an_api_that_is_down(world: World) -> None:
    (world.directory / "api.sock").unlink()
    answer = await world.raw(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(answer) == 502
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == 502


async def test_many_bad_requests_in_one_go(world: World) -> None:
    """Each is answered at once: that must not go deeper and deeper."""
    request = b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    count = 2000
    answer = await world.raw(request * count + b"end\r\n\r\n")
    assert answer.count(b"HTTP/1.1 403") == count


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_server_with_a_full_queue_is_waited_for(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(tmp_path / "full"))
            listener.listen(0)
            opening = [asyncio.create_task(open_unix(tmp_path / "full", ("", 0))) for _ in range(5)]
            await asyncio.sleep(0.1)
            assert not all(task.done() for task in opening)
            accepted = [await asyncio.to_thread(listener.accept) for _ in opening]
            for upstream in await asyncio.gather(*opening):
                upstream.abort()
            for connection, _ in accepted:
                connection.close()
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
