"""An edge between real clients and real servers, for the edge's tests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route as Path_
from websockets.asyncio.server import ServerConnection, unix_serve

from code_interpreter.guest.ports import serve_ports
from code_interpreter.host.edge import Edge, Route, WakeRefused
from code_interpreter.host.runtimes.base import ENVD_SOCKET, GATEWAY_SOCKET, PORTS_SOCKET

BOX = "i1box"


@dataclass
class Table:
    """The lifecycle's part: a table of sandboxes."""

    routes: dict[str, Route] = field(default_factory=dict)
    woken: list[str] = field(default_factory=list)
    refuses_to_wake: bool = False

    def find(self, sandbox_id: str) -> Route | None:
        return self.routes.get(sandbox_id)

    def find_by_signature(
        self,
        path: str,
        username: str | None,
        signature: str,
        expiration: int | None,
        operation: Literal["read", "write"],
    ) -> Route | None:
        for route in self.routes.values():
            parts = [path, operation, username or "", route.access_token or ""]
            parts += [] if expiration is None else [str(expiration)]
            if signature == sign(":".join(parts)):
                return route
        return None

    def find_by_access_token(self, token: str) -> Route | None:
        routes = self.routes.values()
        return next((route for route in routes if route.access_token == token), None)

    async def wake(self, sandbox_id: str) -> None:
        if self.refuses_to_wake:
            raise WakeRefused("it is being moved")
        await asyncio.sleep(0.01)
        self.woken.append(sandbox_id)
        self.change(sandbox_id, paused=False)

    def change(self, sandbox_id: str, **changes: object) -> None:
        self.routes[sandbox_id] = replace(self.routes[sandbox_id], **changes)  # type: ignore[arg-type]


def sign(text: str) -> str:
    return "v1_" + b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@dataclass
class World:
    """The port of the edge, and what its servers saw."""

    port: int
    edge: Edge
    table: Table
    directory: Path
    requests: list[str] = field(default_factory=list)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    def box_headers(self, port: int, sandbox_id: str = BOX) -> dict[str, str]:
        return {"E2b-Sandbox-Id": sandbox_id, "E2b-Sandbox-Port": str(port)}

    def forwarded(self) -> int:
        """How many requests have reached a server and wait for the end of their answer."""
        exchanges = [client._exchange for client in self.edge._clients]
        return sum(1 for each in exchanges if each is not None and each.upstream is not None)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, request: bytes) -> bytes:
        """Everything the edge answers until it closes the connection."""
        reader, writer = await self.connect()
        writer.write(request)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer


def application(name: str, world: World) -> Starlette:
    """A server that tells what it got."""

    async def echo(request: Request) -> Response:
        body = await request.body()
        world.requests.append(f"{name} {request.method} {request.url.path}")
        seen = {
            "server": name,
            "method": request.method,
            "target": str(request.url.path) + "?" + request.url.query,
            "headers": dict(request.headers),
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return Response(json.dumps(seen), media_type="application/json")

    async def stream(request: Request) -> Response:
        async def ticks() -> AsyncIterator[bytes]:
            try:
                for number in range(int(request.query_params["count"])):
                    yield b"%d\n" % number
                    await asyncio.sleep(float(request.query_params.get("pause", "0")))
            except asyncio.CancelledError:
                world.disconnected.set()
                raise

        return StreamingResponse(ticks())

    async def flood(request: Request) -> Response:
        async def zeros() -> AsyncIterator[bytes]:
            for _ in range(int(request.query_params["mebibytes"]) * 16):
                yield bytes(65536)

        return StreamingResponse(zeros())

    async def refuse(request: Request) -> Response:
        return PlainTextResponse("too large", 413)

    async def hang(request: Request) -> Response:
        with contextlib.suppress(ClientDisconnect):
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
        world.disconnected.set()
        return PlainTextResponse("")

    async def no_content(request: Request) -> Response:
        return Response(status_code=204)

    everything = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]
    return Starlette(
        routes=[
            Path_("/stream", stream),
            Path_("/flood", flood),
            Path_("/refuse", refuse, methods=everything),
            Path_("/hang", hang, methods=everything),
            Path_("/no-content", no_content),
            Path_("/{rest:path}", echo, methods=everything),
        ]
    )


@contextlib.asynccontextmanager
async def serving(app: Starlette, **where: object) -> AsyncIterator[None]:
    config = uvicorn.Config(app, log_level="error", lifespan="off", **where)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    if not config.loaded:
        config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield
    finally:
        server.force_exit = True
        await server.shutdown()


async def _echo_messages(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def ports_opener(path: Path) -> AsyncIterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        task = asyncio.create_task(serve_ports(listener))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def world_in(directory: Path) -> AsyncIterator[World]:
    """API and envd on uvicorn, the gateway a WebSocket echo, and the port opener of a box."""
    table = Table({BOX: Route(BOX, directory, access_token="envd-secret")})
    edge = Edge(table, directory / "api.sock", domain="boxes.example")
    port = await edge.serve("127.0.0.1", 0)
    world = World(port, edge, table, directory)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(edge.close)
        for name, path in (("api", "api.sock"), ("envd", ENVD_SOCKET)):
            app = application(name, world)
            await stack.enter_async_context(serving(app, uds=str(directory / path)))
        await stack.enter_async_context(
            unix_serve(_echo_messages, str(directory / GATEWAY_SOCKET), compression=None)
        )
        await stack.enter_async_context(ports_opener(directory / PORTS_SOCKET))
        yield world
