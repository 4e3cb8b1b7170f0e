"""The kernels through Jupyter's own interface, with clients that others wrote and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from jupyter_kernel_client import JupyterKernelClient  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, unix_connect

from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

V1 = "v1.kernel.websocket.jupyter.org"


@contextlib.asynccontextmanager
async def over_tcp(world: World) -> AsyncIterator[str]:
    """A URL for clients that know no unix sockets."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_unix_connection(world.socket)
        await asyncio.gather(carry(reader, their_writer), carry(their_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def kernel_id(client: httpx.AsyncClient) -> str:
    return str((await client.post("/api/kernels", json={"name": "python3"})).json()["id"])


async def test_a_client_library_attaches_to_a_live_context(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
    await shared.run("made_by_agent = 41", context_id=context_id)

    def attach(url: str) -> dict[str, Any]:
        options = {"kernel_id": context_id, "client_kwargs": {"timeout": 3}}
        with JupyterKernelClient(server_url=url, token="", **options) as kernel:
            reply: dict[str, Any] = kernel.execute("print('hi'); made_by_agent + 1")
            kernel.execute("made_by_human = 1")
            return reply

    async with over_tcp(shared) as url:
        reply = await asyncio.to_thread(attach, url)
    assert reply["status"] == "ok"
    assert [output["output_type"] for output in reply["outputs"]] == ["stream", "execute_result"]
    assert reply["outputs"][1]["data"]["text/plain"] == "42"
    assert (await shared.run("made_by_human", context_id=context_id)).text == "1"


async def test_kernels_and_specs(shared: World) -> None:
    async with shared.client() as client:
        assert (await client.get("/api")).json()["version"]
        specs = (await client.get("/api/kernelspecs")).json()
        assert specs["default"] == "python3"
        assert specs["kernelspecs"]["python3"]["spec"]["language"] == "python"
        assert (await client.get("/api/kernelspecs/python3")).json()["name"] == "python3"
        assert (await client.get("/api/kernelspecs/none")).status_code == 404
        made = await client.post("/api/kernels", json={"name": "python3"})
        assert made.status_code == 201
        kernel = made.json()
        assert made.headers["Location"] == f"kernels/{kernel['id']}"
        listed = {each["id"] for each in (await client.get("/api/kernels")).json()}
        assert {each["id"] for each in (await client.get("/contexts")).json()} == listed
        await shared.run("x = 1", context_id=kernel["id"])
        assert (await client.post(f"/api/kernels/{kernel['id']}/interrupt")).status_code == 204
        restarted = await client.post(f"/api/kernels/{kernel['id']}/restart")
        assert restarted.json()["id"] == kernel["id"]
        assert (await shared.run("x", context_id=kernel["id"])).error is not None
        assert (await client.delete(f"/api/kernels/{kernel['id']}")).status_code == 204
        gone = await client.get(f"/api/kernels/{kernel['id']}")
    assert gone.status_code == 404
    assert "not found" in gone.json()["message"]


async def test_a_live_context_is_a_kernelspec_too(shared: World) -> None:
    async with shared.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
        await shared.run("kept = 8", context_id=context_id)
        name = f"live-{context_id}"
        spec = (await client.get(f"/api/kernelspecs/{name}")).json()["spec"]
        assert (spec["language"], spec["display_name"]) == (
            "python",
            f"Python 3, running ({context_id[:8]})",
        )
        unneeded = (await client.post("/api/kernels", json={"name": name})).json()
        kernel = (await client.post("/api/kernels", json={"name": name})).json()
        assert len({kernel["id"], unneeded["id"], context_id}) == 3
        assert (await client.delete(f"/api/kernels/{unneeded['id']}")).status_code == 204
        listed = [each["id"] for each in (await client.get("/api/kernels")).json()]
        assert (kernel["id"] in listed, unneeded["id"] in listed) == (True, False)
        address = f"ws://gateway/api/kernels/{kernel['id']}/channels"
        async with unix_connect(shared.socket, address, max_queue=None) as socket:
            message = request("kept + 1")
            await socket.send(json.dumps(message))
            answers = await until_idle(socket, message)
        assert "9" in [each["content"].get("data", {}).get("text/plain") for each in answers]
        assert (await client.delete(f"/api/kernels/{kernel['id']}")).status_code == 204
        listed = [each["id"] for each in (await client.get("/api/kernels")).json()]
        assert kernel["id"] not in listed
        assert context_id in listed
        assert (await shared.run("kept", context_id=context_id)).text == "8"
        unknown = await client.post("/api/kernels", json={"name": "live-none"})
    assert unknown.status_code == 404


async def test_sessions(shared: World) -> None:
    async with shared.client() as client:
        body = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "python3"}}
        made = await client.post("/api/sessions", json=body)
        assert made.status_code == 201
        session = made.json()
        assert session["notebook"]["path"] == "a.ipynb"
        url = f"/api/sessions/{session['id']}"
        assert (await client.get(url)).json()["kernel"]["id"] == session["kernel"]["id"]
        assert (await client.patch(url, json={"path": "b.ipynb"})).json()["path"] == "b.ipynb"
        assert session["id"] in [each["id"] for each in (await client.get("/api/sessions")).json()]
        assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).status_code == 404
        assert (await client.get(f"/api/kernels/{session['kernel']['id']}")).status_code == 404


async def test_every_context_is_a_session(shared: World) -> None:
    """What VS Code offers as running kernels are sessions."""
    async with shared.client() as client:
        key = await kernel_id(client)
        await shared.run("1", context_id=key)
        (session,) = await sessions_of(client, key)
        assert (session["path"], session["type"]) == (f"python-{key[:8]}", "console")
        assert (await client.get(f"/api/sessions/{session['id']}")).json() == session
        body = {"path": "c.ipynb", "type": "notebook", "kernel": {"id": key}}
        named = (await client.post("/api/sessions", json=body)).json()
        again = (await client.post("/api/sessions", json={"path": "c.ipynb"})).json()
        assert [each["id"] for each in await sessions_of(client, key)] == [named["id"]]
        assert (again["id"], again["kernel"]["id"]) == (named["id"], key)
        assert (await client.delete(f"/api/kernels/{key}")).status_code == 204
        assert await sessions_of(client, key) == []


async def test_a_session_that_takes_another_kernel_ends_only_its_own(shared: World) -> None:
    async with shared.client() as client:
        agents = await kernel_id(client)
        body = {"path": "d.ipynb", "kernel": {"id": agents}}
        url = f"/api/sessions/{(await client.post('/api/sessions', json=body)).json()['id']}"
        changed = await client.patch(url, json={"kernel": {"name": "python3"}})
        own = changed.json()["kernel"]["id"]
        await client.patch(url, json={"kernel": {"id": agents}})
        listed = {each["id"] for each in (await client.get("/api/kernels")).json()}
        assert agents in listed
        assert own not in listed
        unknown = await client.patch(url, json={"kernel": {"id": "none"}})
        assert (unknown.status_code, unknown.json()["reason"]) == (404, None)


async def sessions_of(client: httpx.AsyncClient, key: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await client.get("/api/sessions")).json()
    return [each for each in listed if each["kernel"]["id"] == key]


async def test_what_is_not_there_is_said_as_json(shared: World) -> None:
    async with shared.client() as client:
        for method, path in (
            ("GET", "/api/contents"),
            ("PUT", "/api/contents/a.ipynb"),
            ("GET", "/api/terminals"),
            ("DELETE", "/api/kernels"),
        ):
            answer = await client.request(method, path)
            assert answer.status_code == (405 if path == "/api/kernels" else 404)
            assert answer.json()["message"]
        for path in ("/", "/tree", "/tree?", "/lab"):
            assert "JupyterLab" in (await client.get(path)).text


@pytest.mark.parametrize("protocol", [None, V1])
async def test_formats_of_our_clients_are_not_for_others(shared: World, protocol: Any) -> None:
    """AutoGen prints what it does not know; a notebook would keep it."""
    async with shared.client() as client:
        key = await kernel_id(client)
    address = f"ws://gateway/api/kernels/{key}/channels"
    protocols = [protocol] if protocol else None
    async with unix_connect(shared.socket, address, subprotocols=protocols) as socket:
        message = request(
            "import matplotlib.pyplot as p, pandas; p.plot([1]); p.show(); "
            "display({'x/y': 1}, raw=True); pandas.DataFrame({'a': [1]})"
        )
        await socket.send(to_v1(message) if protocol else json.dumps(message))
        shown = [answer["content"].get("data") for answer in await until_idle(socket, message)]
    plot, custom, table = [set(data) for data in shown if data]
    assert plot == {"text/plain", "image/png"}
    assert custom == {"x/y"}
    assert table == {"text/plain", "text/html"}


def request(code: str, channel: str = "shell", **content: Any) -> dict[str, Any]:
    kind = content.pop("msg_type", "execute_request")
    header = {"msg_id": uuid.uuid4().hex, "session": "s", "username": "u", "version": "5.3"}
    header |= {"msg_type": kind, "date": "2026-01-01T00:00:00Z"}
    content = {"code": code, "silent": False, "allow_stdin": True, **content}
    return {"channel": channel, "header": header, "content": content}


def to_v1(message: dict[str, Any]) -> bytes:
    parts = [message["channel"].encode()]
    for name in ("header", "parent_header", "metadata", "content"):
        parts.append(json.dumps(message.get(name, {})).encode())
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


def from_v1(data: bytes) -> dict[str, Any]:
    (count,) = struct.unpack_from("<Q", data)
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    parts = [data[a:b] for a, b in itertools.pairwise(offsets)]
    header, parent, _, content = (json.loads(part) for part in parts[1:5])
    return {
        "channel": parts[0].decode(),
        "msg_type": header["msg_type"],
        "header": header,
        "parent_header": parent,
        "content": content,
    }


async def until_idle(socket: ClientConnection, message: dict[str, Any]) -> list[dict[str, Any]]:
    """All that comes in answer to a request."""
    answers: list[dict[str, Any]] = []
    kinds: set[tuple[str, str]] = set()
    async with asyncio.timeout(20):
        while not {("shell", "execute_reply"), ("iopub", "idle")} <= kinds:
            data = await socket.recv()
            read = from_v1(data) if isinstance(data, bytes) else json.loads(data)
            if read["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            answers.append(read)
            kinds.add((read["channel"], read["content"].get("execution_state", read["msg_type"])))
            if read["msg_type"] == "input_request":
                reply = request("", "stdin", msg_type="input_reply", value="typed")
                reply["parent_header"] = read["header"]
                is_v1 = socket.subprotocol == V1
                await socket.send(to_v1(reply) if is_v1 else json.dumps(reply))
    return answers


@pytest.mark.parametrize("protocol", [None, V1])
async def test_channels_in_both_forms(shared: World, protocol: Any) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
    await shared.run("shared_name = 5", context_id=key)
    address = f"ws://gateway/api/kernels/{key}/channels?session_id=s"
    protocols = [protocol] if protocol else None
    async with unix_connect(shared.socket, address, subprotocols=protocols) as socket:
        assert socket.subprotocol == protocol
        message = request("print('ü'); (input('who? '), shared_name)")
        await socket.send(to_v1(message) if protocol else json.dumps(message))
        answers = await until_idle(socket, message)
    by_type = {answer["msg_type"]: answer["content"] for answer in answers}
    assert by_type["stream"]["text"] == "ü\n"
    assert by_type["input_request"]["prompt"] == "who? "
    assert by_type["execute_result"]["data"]["text/plain"] == "('typed', 5)"
    assert by_type["execute_reply"]["status"] == "ok"


async def test_cells_of_both_kinds_wait_for_each_other(shared: World) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
    await shared.run("import time; order = []", context_id=key)
    address = f"ws://gateway/api/kernels/{key}/channels"
    async with unix_connect(shared.socket, address) as socket, shared.link() as link:
        message = request("time.sleep(0.3); order.append('theirs')")
        await socket.send(json.dumps(message))
        await asyncio.sleep(0.1)
        ours = await link.begin("order.append('ours'); order", context_id=key, timeout=0.2)
        await until_idle(socket, message)
        outcome = await link.outcome(ours)
    assert outcome.text == "['theirs', 'ours']"


@pytest.mark.parametrize("protocol", [None, V1])
async def test_who_leaves_in_the_middle_of_a_cell_blocks_nobody(
    shared: World, protocol: Any
) -> None:
    """smolagents hangs up at the error, before the cell's reply."""
    async with shared.client() as client:
        key = await kernel_id(client)
        address = f"ws://gateway/api/kernels/{key}/channels"
        protocols = [protocol] if protocol else None
        async with unix_connect(shared.socket, address, subprotocols=protocols) as socket:
            message = request("print('begun', flush=True); import time; time.sleep(0.3); 1/0")
            await socket.send(to_v1(message) if protocol else json.dumps(message))
            async with asyncio.timeout(20):
                while (
                    b"begun" not in (data := await socket.recv())
                    if protocol
                    else ("begun" not in str(data := await socket.recv()))
                ):
                    assert data
        assert (await shared.run("'next'", context_id=key, timeout=10)).text == "'next'"
        assert (await client.get(f"/api/kernels/{key}")).json()["execution_state"] == "idle"


async def test_who_comes_back_hears_what_its_cell_said_meanwhile(shared: World) -> None:
    """JupyterLab after a nap of the laptop: the same session on a new connection."""
    async with shared.client() as client:
        key = await kernel_id(client)
    address = f"ws://gateway/api/kernels/{key}/channels?session_id={uuid.uuid4().hex}"
    message = request("print('early', flush=True); import time; time.sleep(1); print('late'); 5")
    async with unix_connect(shared.socket, address) as socket:
        await socket.send(json.dumps(message))
        while json.loads(await asyncio.wait_for(socket.recv(), 20))["msg_type"] != "stream":
            pass
    assert (await shared.run("'other cell'", context_id=key)).text == "'other cell'"
    async with unix_connect(shared.socket, address) as socket:
        answers = await until_idle(socket, message)
        told = [each["content"].get("text") for each in answers if each["msg_type"] == "stream"]
        assert "".join(filter(None, told)) == "late\n"
        assert "5" in [each["content"].get("data", {}).get("text/plain") for each in answers]
        second = request("6")
        await socket.send(json.dumps(second))
        await until_idle(socket, second)
    async with shared.client() as client:
        assert (await client.get(f"/api/kernels/{key}")).json()["connections"] == 0


async def test_who_comes_back_before_it_was_missed_gets_its_reply(shared: World) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
    address = f"ws://gateway/api/kernels/{key}/channels?session_id={uuid.uuid4().hex}"
    message = request("print('early', flush=True); import time; time.sleep(1); 5")
    async with unix_connect(shared.socket, address) as first:
        await first.send(json.dumps(message))
        while json.loads(await asyncio.wait_for(first.recv(), 20))["msg_type"] != "stream":
            pass
        async with unix_connect(shared.socket, address) as second:
            await first.close()
            assert "5" in [
                each["content"].get("data", {}).get("text/plain")
                for each in await until_idle(second, message)
            ]


async def test_they_hear_of_our_cells_and_of_a_restart(shared: World) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
        await shared.run("1", context_id=key)
        address = f"ws://gateway/api/kernels/{key}/channels"
        async with unix_connect(shared.socket, address, max_queue=None) as socket:
            await shared.run("print('seen')", context_id=key)
            await client.post(f"/contexts/{key}/restart")
            heard = []
            async with asyncio.timeout(10):
                while "restarting" not in heard:
                    content = json.loads(await socket.recv())["content"]
                    heard.append(content.get("text") or content.get("execution_state"))
    assert "seen\n" in heard


async def test_pages_of_other_sites_are_refused(shared: World) -> None:
    async with shared.client(headers={"Origin": "http://evil.example"}) as client:
        for method, path in (("POST", "/execute"), ("GET", "/contexts"), ("POST", "/api/kernels")):
            response = await client.request(method, path, content=b'{"code": "1"}')
            assert response.status_code == 403, path


async def test_what_is_sent_while_the_kernel_starts_is_not_lost(shared: World) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
        address = f"ws://gateway/api/kernels/{key}/channels"
        async with unix_connect(shared.socket, address, max_queue=None) as socket:
            first = request("1 + 1")
            await socket.send(json.dumps(first))
            await until_idle(socket, first)
            restarting = asyncio.create_task(client.post(f"/api/kernels/{key}/restart"))
            await asyncio.sleep(0.05)
            second = request("2 + 2")
            await socket.send(json.dumps(second))
            answers = await until_idle(socket, second)
            await restarting
    assert "4" in [each["content"].get("data", {}).get("text/plain") for each in answers]


async def test_a_kernel_that_dies_is_there_again(shared: World) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
    address = f"ws://gateway/api/kernels/{key}/channels"
    async with unix_connect(shared.socket, address, max_queue=None) as socket:
        await socket.send(json.dumps(request("import os; os._exit(1)")))
        async with asyncio.timeout(20):
            while True:
                content = json.loads(await socket.recv())["content"]
                if content.get("execution_state") == "restarting":
                    break
        again = request("'alive'")
        await socket.send(json.dumps(again))
        answers = await until_idle(socket, again)
    assert "'alive'" in [each["content"].get("data", {}).get("text/plain") for each in answers]


async def test_status_and_identity(shared: World) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
        async with unix_connect(shared.socket, f"ws://gateway/api/kernels/{key}/channels"):
            status = (await client.get("/api/status")).json()
            assert status["kernels"] >= 1
            assert status["connections"] == 1
        assert status["started"] <= status["last_activity"]
        assert (await client.get("/api/me")).json()["identity"]["username"] == "user"
        states = {each["execution_state"] for each in (await client.get("/api/kernels")).json()}
    assert states <= {"idle", "starting", "busy"}


async def test_bad_frames_close_the_connection(shared: World) -> None:
    async with shared.client() as client:
        key = await kernel_id(client)
    for frame in ("{", b"\0" * 8, b"x"):
        address = f"ws://gateway/api/kernels/{key}/channels"
        protocols = [V1] if isinstance(frame, bytes) else None
        async with unix_connect(shared.socket, address, subprotocols=protocols) as socket:
            await socket.send(frame)
            await socket.wait_closed()
            assert socket.close_code == 1003
    assert (await shared.run("1", context_id=key)).text == "1"
