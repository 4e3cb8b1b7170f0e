"""envd's server: Connect applications and plain HTTP routes on one unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import uvicorn
from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
from e2b.envd.process.process_connect import ProcessASGIApplication
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from code_interpreter.envd.answers import Refused
from code_interpreter.envd.files import Files
from code_interpreter.envd.filesystem_service import FilesystemService
from code_interpreter.envd.metrics import Meter
from code_interpreter.envd.process_service import ProcessService
from code_interpreter.envd.processes import Processes
from code_interpreter.envd.state import InitBody, State
from code_interpreter.guest.config import GuestConfig, listening_socket
from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.ports import serve_ports

KEEP_ALIVE = 640
"""Seconds that an idle connection stays open; longer than any client keeps its own (300)."""
LARGEST_MESSAGE = 64 * 1024 * 1024
_OPEN_TO_ALL = ("/health", "/init", "/files", "/files/compose")
"""Paths that need no token, or check it, or a signature, themselves."""


def make_app(config: GuestConfig) -> ASGIApp:
    """The ASGI application of one sandbox's envd."""
    state = State(config, default_user=config.default_user)
    files, meter = Files(state), Meter(config.state_directory)
    processes = Processes(Launcher(config.user_namespace_fd))
    process_app = ProcessASGIApplication(
        ProcessService(state, processes), read_max_bytes=LARGEST_MESSAGE, compressions=()
    )
    filesystem_app = FilesystemASGIApplication(
        FilesystemService(state), read_max_bytes=LARGEST_MESSAGE, compressions=()
    )

    async def health(_: Request) -> Response:
        return Response(status_code=204)

    async def init(request: Request) -> Response:
        try:
            state.initialise(InitBody.model_validate_json(await request.body()))
        except ValidationError as error:
            raise Refused(400, f"POST /init: {error.errors()[0]['msg']}") from error
        return Response(status_code=204)

    async def envs(_: Request) -> Response:
        return JSONResponse(state.env_vars)

    async def metrics(_: Request) -> Response:
        return JSONResponse(meter.read())

    plain = Starlette(
        routes=[
            Route("/health", _answering(health)),
            Route("/init", _answering(init), methods=["POST"]),
            Route("/envs", _answering(envs)),
            Route("/metrics", _answering(metrics)),
            Route("/files", _answering(files.download), methods=["GET"]),
            Route("/files", _answering(files.upload), methods=["POST"]),
            Route("/files/compose", _answering(files.compose), methods=["POST"]),
        ]
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path not in _OPEN_TO_ALL:
            token = dict(scope["headers"]).get(b"x-access-token", b"").decode("latin-1")
            if not state.may_enter(token):
                refusal = Refused(401, "the access token is missing or wrong (X-Access-Token)")
                await refusal.response()(scope, receive, send)
                return
        if path.startswith("/process.Process/"):
            await process_app(scope, receive, send)
        elif path.startswith("/filesystem.Filesystem/"):
            await filesystem_app(scope, receive, send)
        else:
            await plain(scope, receive, send)

    return app


Handler = Callable[[Request], Awaitable[Response]]


def _answering(handler: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refusal:
            return refusal.response()

    return handle


def run(config: GuestConfig) -> None:
    """Serve until killed."""
    asyncio.run(_serve(config))


async def _serve(config: GuestConfig) -> None:
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(config),
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE,
            server_header=False,
        )
    )
    listener = listening_socket(config.listen_fd, config.listen_path)
    async with asyncio.TaskGroup() as group:
        if config.ports_fd is not None or config.ports_path is not None:
            ports = listening_socket(config.ports_fd, config.ports_path)
            group.create_task(serve_ports(ports))
        group.create_task(server.serve(sockets=[listener]))
