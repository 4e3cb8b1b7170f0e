"""The edge between real clients and servers: routing, forwarding, cancelling."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets

from tests.host.edge_world import BOX, World, application, serving, sign, world_in


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(tmp_path) as world:
        yield world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://127.0.0.1:{world.port}"
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        yield client


async def test_what_names_no_sandbox_goes_to_the_api(client: httpx.AsyncClient) -> None:
    seen = (await client.get("/v2/sandboxes?limit=3", headers={"X-API-KEY": "e2b_1"})).json()
    assert (seen["server"], seen["target"]) == ("api", "/v2/sandboxes?limit=3")
    assert seen["headers"]["x-api-key"] == "e2b_1"


async def test_headers_name_a_sandbox(world: World, client: httpx.AsyncClient) -> None:
    seen = (await client.get("/health", headers=world.box_headers(49983))).json()
    assert (seen["server"], seen["target"]) == ("envd", "/health?")


@pytest.mark.parametrize("domain", ["boxes.example", "localhost:1234", "10-0-0-1.nip.io"])
async def test_a_host_name_names_a_sandbox(client: httpx.AsyncClient, domain: str) -> None:
    seen = (await client.get("/x", headers={"Host": f"49983-{BOX}.{domain}"})).json()
    assert seen["server"] == "envd"
    assert seen["headers"]["host"] == f"49983-{BOX}.{domain}"


async def test_a_client_id_behind_the_sandbox_id_is_ignored(
    world: World, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/x", headers=world.box_headers(49983, f"{BOX}-client1"))
    assert answer.json()["server"] == "envd"


async def test_an_unknown_sandbox_was_not_found(world: World, client: httpx.AsyncClient) -> None:
    answer = await client.get("/health", headers=world.box_headers(49983, "igone"))
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "sandboxId": "igone",
        "message": "The sandbox was not found",
        "code": 502,
    }


async def test_a_closed_port_is_not_open(world: World, client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers=world.box_headers(1))
    assert answer.status_code == 502
    assert answer.json() == {
        "sandboxId": BOX,
        "message": "The sandbox is running but port is not open",
        "port": 1,
        "code": 502,
    }


async def test_a_box_whose_processes_are_gone_was_not_found(
    world: World, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    world.table.change(BOX, run_directory=tmp_path / "gone")
    for port in (49983, 49999, 3000):
        answer = await client.get("/", headers=world.box_headers(port))
        assert (answer.status_code, answer.json()["message"]) == (502, "The sandbox was not found")


async def test_another_port_is_reached_through_the_sandbox(
    world: World, client: httpx.AsyncClient, unused_tcp_port: int
) -> None:
    app = application("mine", world)
    async with serving(app, host="127.0.0.1", port=unused_tcp_port):
        for _ in range(3):
            answer = await client.post(
                "/a", headers=world.box_headers(unused_tcp_port), content=b"xyz"
            )
            assert (answer.json()["server"], answer.json()["bytes"]) == ("mine", 3)


async def test_one_connection_serves_many_targets_in_turn(
    world: World, client: httpx.AsyncClient
) -> None:
    async with httpx.AsyncClient(
        base_url=client.base_url, limits=httpx.Limits(max_connections=1)
    ) as single:
        for _ in range(5):
            assert (await single.get("/x")).json()["server"] == "api"
            envd = await single.get("/x", headers=world.box_headers(49983))
            assert envd.json()["server"] == "envd"
            lost = await single.get("/x", headers=world.box_headers(49983, "inone"))
            assert lost.status_code == 502


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    box = f"Host: localhost\r\nE2b-Sandbox-Id: {BOX}\r\nE2b-Sandbox-Port: 49983\r\n"
    requests = (
        "GET /stream?count=3&pause=0.02 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        f"POST /two HTTP/1.1\r\n{box}Content-Length: 3\r\n\r\nabc"
        f"GET /three HTTP/1.1\r\n{box.replace(BOX, 'inone')}\r\n"
        "POST /four HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n2\r\nxy\r\n0\r\n\r\n"
    )
    answer = await world.raw(requests.encode())
    order = [answer.index(part) for part in (b"2\n", b'"envd"', b"not found", b'"bytes": 2')]
    assert order == sorted(order)
    assert answer.count(b"HTTP/1.1 ") == 4


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_arrive_whole(
    world: World, client: httpx.AsyncClient, chunked: bool
) -> None:
    piece = bytes(range(256)) * 256

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(320):
            yield piece

    content = pieces() if chunked else piece * 320
    seen = (await client.put("/files", headers=world.box_headers(49983), content=content)).json()
    assert seen["bytes"] == 320 * len(piece)
    assert seen["sha256"] == hashlib.sha256(piece * 320).hexdigest()


async def test_each_piece_of_a_response_comes_as_it_is_made(
    world: World, client: httpx.AsyncClient
) -> None:
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []
    async with client.stream(
        "GET", "/stream?count=5&pause=0.05", headers=world.box_headers(49983)
    ) as response:
        async for _ in response.aiter_raw():
            arrivals.append(loop.time())
    assert len(arrivals) == 5
    assert arrivals[-1] - arrivals[0] > 0.15


async def test_a_client_that_leaves_is_noticed_at_once(
    world: World, client: httpx.AsyncClient
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/hang", headers=world.box_headers(49983), timeout=0.2)
    async with asyncio.timeout(1):
        await world.disconnected.wait()


async def test_a_client_that_leaves_in_the_middle_of_a_stream_is_noticed(
    world: World, client: httpx.AsyncClient
) -> None:
    async with client.stream(
        "GET", "/stream?count=1000&pause=0.05", headers=world.box_headers(49983)
    ) as response:
        async for _ in response.aiter_raw():
            break
    async with asyncio.timeout(1):
        await world.disconnected.wait()


async def test_an_early_refusal_reaches_a_client_that_still_sends(
    world: World, client: httpx.AsyncClient
) -> None:
    answer = await client.post(
        "/refuse", headers=world.box_headers(49983), content=bytes(20_000_000)
    )
    assert (answer.status_code, answer.text) == (413, "too large")


async def test_an_upload_to_a_dead_sandbox_is_told_so(
    world: World, client: httpx.AsyncClient
) -> None:
    answer = await client.post(
        "/files", headers=world.box_headers(49983, "inone"), content=bytes(20_000_000)
    )
    assert answer.json()["message"] == "The sandbox was not found"


async def test_expect_100_continue(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"bytes": 4' in answer
    writer.close()


@pytest.mark.parametrize("path", ["/x", "/stream?count=3", "/flood?mebibytes=1"])
async def test_head_has_no_body(world: World, client: httpx.AsyncClient, path: str) -> None:
    for _ in range(3):
        answer = await client.head(path)
        assert answer.status_code == 200
        assert answer.content == b""
    assert (await client.get("/after")).json()["target"] == "/after?"


async def test_no_content(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        assert (await client.get("/no-content")).status_code == 204


async def test_a_client_of_http_1_0(world: World) -> None:
    answer = await world.raw(b"GET /stream?count=3 HTTP/1.0\r\nHost: localhost\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"0\n1\n2\n"


async def test_a_slow_reader_slows_the_server_down(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(b"GET /flood?mebibytes=64 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.3)
    (exchange,) = [client._exchange for client in world.edge._clients]
    assert exchange is not None
    assert exchange.upstream is not None
    assert not exchange.upstream.transport.is_reading()
    total = 0
    async with asyncio.timeout(20):
        while total < 64 * 2**20:
            total += len(await reader.read(2**20))
    writer.close()


async def test_killing_a_sandbox_cuts_what_is_under_way(
    world: World, client: httpx.AsyncClient
) -> None:
    headers = world.box_headers(49983)
    cut = asyncio.create_task(client.get("/hang", headers=headers))
    kept = asyncio.create_task(client.get("/stream?count=5&pause=0.1"))
    async with asyncio.timeout(5):
        while world.forwarded() < 2:
            await asyncio.sleep(0.01)
    del world.table.routes[BOX]
    world.edge.disconnect(BOX)
    async with asyncio.timeout(1):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await cut
    assert (await client.get("/health", headers=headers)).status_code == 502
    assert (await kept).text == "0\n1\n2\n3\n4\n"


async def test_a_websocket_goes_both_ways(world: World) -> None:
    url = f"ws://127.0.0.1:{world.port}/v1/executions"
    async with websockets.connect(url, additional_headers=world.box_headers(49999)) as socket:
        for size in (0, 1, 1000, 100_000, 900_000):
            await socket.send(b"x" * size)
            assert await socket.recv() == b"x" * size
    assert socket.close_code == 1000


async def test_a_websocket_ends_with_its_sandbox(world: World) -> None:
    url = f"ws://127.0.0.1:{world.port}/v1/executions"
    async with websockets.connect(url, additional_headers=world.box_headers(49999)) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        world.edge.disconnect(BOX)
        with pytest.raises(websockets.ConnectionClosedError):
            async with asyncio.timeout(1):
                await socket.recv()


async def test_a_websocket_to_a_dead_sandbox_is_turned_down(world: World) -> None:
    url = f"ws://127.0.0.1:{world.port}/"
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(url, additional_headers=world.box_headers(49999, "inone"))
    assert caught.value.response.status_code == 502
    assert json.loads(caught.value.response.body)["message"] == "The sandbox was not found"


async def test_after_an_upgrade_that_was_turned_down_requests_go_on(world: World) -> None:
    answer = await world.raw(
        b"GET /one HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        b"POST /two HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 3\r\n\r\nabc"
        b"GET /three HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 200") == 3
    assert world.requests == ["api GET /one", "api POST /two", "api GET /three"]


@pytest.mark.parametrize("port", [49999, 3000])
async def test_the_traffic_token_is_asked_for(
    world: World, client: httpx.AsyncClient, port: int
) -> None:
    world.table.change(BOX, traffic_token="secret")
    headers = world.box_headers(port)
    for shown in ({}, {"E2B-Traffic-Access-Token": "wrong"}):
        answer = await client.get("/", headers={**headers, **shown})
        assert (answer.status_code, answer.json()["code"]) == (403, 403)
    answer = await client.get("/", headers={**headers, "E2B-Traffic-Access-Token": "secret"})
    assert answer.status_code != 403


async def test_envd_asks_for_no_traffic_token_and_never_sees_it(
    world: World, client: httpx.AsyncClient
) -> None:
    world.table.change(BOX, traffic_token="secret")
    shown = {"E2B-Traffic-Access-Token": "secret"}
    answer = await client.get("/x", headers={**world.box_headers(49983), **shown})
    assert answer.status_code == 200
    assert "e2b-traffic-access-token" not in answer.json()["headers"]
    assert (await client.get("/x", headers=world.box_headers(49983))).status_code == 200


async def test_a_paused_sandbox_is_not_there(world: World, client: httpx.AsyncClient) -> None:
    world.table.change(BOX, paused=True)
    answer = await client.get("/health", headers=world.box_headers(49983))
    assert answer.json()["message"] == "The sandbox was not found"


async def test_a_request_wakes_a_paused_sandbox(world: World, client: httpx.AsyncClient) -> None:
    world.table.change(BOX, paused=True, auto_resume=True)
    headers = world.box_headers(49983)
    denied = await client.get("/health", headers=headers)
    assert (denied.status_code, world.table.woken) == (403, [])
    headers["X-Access-Token"] = "envd-secret"
    answer = await client.post("/x", headers=headers, content=b"waits for it")
    assert (answer.json()["bytes"], world.table.woken) == (12, [BOX])


async def test_a_sandbox_that_cannot_be_woken_now(world: World, client: httpx.AsyncClient) -> None:
    world.table.change(BOX, paused=True, auto_resume=True)
    world.table.refuses_to_wake = True
    answer = await client.get("/", headers=world.box_headers(3000))
    assert answer.status_code == 409
    assert "it is being moved" in answer.json()["message"]


async def test_a_masked_host(world: World, client: httpx.AsyncClient, unused_tcp_port: int) -> None:
    world.table.change(BOX, mask_request_host="localhost:${PORT}")
    async with serving(application("mine", world), host="127.0.0.1", port=unused_tcp_port):
        host = f"{unused_tcp_port}-{BOX}.boxes.example"
        seen = (await client.get("/", headers={"Host": host})).json()["headers"]
    assert seen["host"] == f"localhost:{unused_tcp_port}"
    assert seen["x-forwarded-host"] == host


@pytest.mark.parametrize(
    ("method", "query", "signed"),
    [
        ("GET", "path=a%20b.txt&username=user", "a b.txt:read:user:envd-secret"),
        ("GET", "path=a+b.txt", "a b.txt:read::envd-secret"),
        ("POST", "path=/x&signature_expiration=17", "/x:write::envd-secret:17"),
    ],
)
async def test_a_signed_url_finds_its_sandbox(
    client: httpx.AsyncClient, method: str, query: str, signed: str
) -> None:
    signature = httpx.QueryParams({"signature": sign(signed)})
    answer = await client.request(method, f"/files?{query}&{signature}")
    assert answer.json()["server"] == "envd"
    assert (await client.request(method, f"/files?{query}&signature=v1_x")).status_code == 401


async def test_the_access_token_alone_finds_envd(client: httpx.AsyncClient) -> None:
    token = {"X-Access-Token": "envd-secret"}
    for path in ("/files?path=x", "/health", "/process.Process/List"):
        assert (await client.post(path, headers=token)).json()["server"] == "envd"
    assert (await client.get("/v2/sandboxes", headers=token)).json()["server"] == "api"
    lost = await client.get("/health", headers={"X-Access-Token": "wrong"})
    assert (lost.status_code, lost.json()["message"]) == (502, "The sandbox was not found")


async def test_the_run_directory_may_have_a_long_path(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    short = tmp_path / "short"
    short.mkdir()
    async with world_in(short) as world:
        for path in short.iterdir():
            (directory / path.name).symlink_to(path)
        world.table.change(BOX, run_directory=directory)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.port}") as client:
            assert (await client.get("/x", headers=world.box_headers(49983))).status_code == 200
            answer = await client.get("/x", headers=world.box_headers(1))
            assert "port is not open" in answer.text


async def test_closing_leaves_nothing(world: World, client: httpx.AsyncClient) -> None:
    hanging = asyncio.create_task(client.get("/hang"))
    async with asyncio.timeout(5):
        while not world.forwarded():
            await asyncio.sleep(0.01)
    await world.edge.close()
    with pytest.raises(httpx.TransportError):
        await hanging
    await asyncio.sleep(0)
    assert not world.edge._clients
    with pytest.raises(httpx.ConnectError):
        await client.get("/")


async def test_nobody_is_let_in_any_more(world: World, client: httpx.AsyncClient) -> None:
    """What is under way goes on."""
    headers = world.box_headers(49983)
    url = f"http://127.0.0.1:{world.port}/stream?count=3&pause=0.05"
    async with client.stream("GET", url, headers=headers) as under_way:
        world.edge.refuse_all()
        for path, named in (("/health", {}), ("/v2/sandboxes", {}), ("/health", headers)):
            answer = await client.get(path, headers=named)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["message"] == "This host is stopping"
        assert await under_way.aread() == b"0\n1\n2\n"
