"""envd's ASGI application: Connect services and plain HTTP routes behind one gate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from connectrpc.code import Code
from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
from e2b.envd.process.process_connect import ProcessASGIApplication
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from code_interpreter.envd import departure
from code_interpreter.envd.answers import answering
from code_interpreter.envd.archives import Archives
from code_interpreter.envd.codecs import codecs
from code_interpreter.envd.composing import Composing
from code_interpreter.envd.downloads import Downloads
from code_interpreter.envd.filesystem import Filesystem
from code_interpreter.envd.filesystem_service import FilesystemService
from code_interpreter.envd.memory import Memory
from code_interpreter.envd.moving import Mover
from code_interpreter.envd.process_service import ProcessService
from code_interpreter.envd.processes import Processes
from code_interpreter.envd.starter import Starter
from code_interpreter.envd.state import State
from code_interpreter.envd.status import Status
from code_interpreter.envd.tree import Tree
from code_interpreter.envd.uploads import Uploads
from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.launch import Launcher

LARGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes of one Connect message, such as one piece of input for a process."""
_FREE = frozenset({"/health", "/init", "/files"})
"""Paths that need no token, or whose handlers check it, or a signature, themselves."""
_log = logging.getLogger(__name__)
_REFUSAL = "the access token is missing or wrong (header X-Access-Token)"


def make_app(config: GuestConfig) -> Gate:
    """The application of one sandbox's envd."""
    state = State(config, default_user=config.default_user)
    Memory(config.state_directory).recall(state)
    tree, launcher = Tree(config), Launcher(config.user_namespace_fd)
    starter = Starter(launcher, config.user_namespace_fd)
    files = Filesystem(tree, Mover(launcher, state.superuser(), state.path))
    options: dict[str, Any] = {
        "read_max_bytes": LARGEST_MESSAGE,
        "compressions": (),
        "codecs": codecs(),
    }
    processes = Processes(starter, config.remembered_seconds)
    filesystem = FilesystemService(state, files)
    services: dict[str, Any] = {
        "/process.Process/": ProcessASGIApplication(ProcessService(state, processes), **options),
        "/filesystem.Filesystem/": FilesystemASGIApplication(filesystem, **options),
    }

    def in_use() -> bool:
        return processes.has_any() or filesystem.has_watchers()

    return Gate(state, services, _plain(state, tree), in_use)


def _plain(state: State, tree: Tree) -> Starlette:
    status, downloads, uploads = Status(state), Downloads(state, tree), Uploads(state, tree)
    archives, composing = Archives(state, tree), Composing(state, tree)
    return Starlette(
        routes=[
            Route("/health", answering(status.health)),
            Route("/init", answering(status.init), methods=["POST"]),
            Route("/envs", answering(status.envs)),
            Route("/metrics", answering(status.metrics)),
            Route("/files", answering(downloads.get), methods=["GET"]),
            Route("/files", answering(uploads.post), methods=["POST"]),
            Route("/files/compose", answering(composing.post), methods=["POST"]),
            Route("/files/archive", answering(archives.get), methods=["GET"]),
            Route("/files/archive", answering(archives.post), methods=["POST"]),
        ]
    )


class Gate:
    """Lets in who has the access token, and shows the way."""

    def __init__(
        self,
        state: State,
        services: Mapping[str, ASGIApp],
        plain: ASGIApp,
        in_use: Callable[[], bool],
    ) -> None:
        self.in_use = in_use
        """Whether something is kept that a successor would not know of."""
        self._state = state
        self._services = services
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        service = self._services.get(path[: path.find("/", 1) + 1])
        if path not in _FREE and not self._state.may_enter(_token(scope)):
            code = 401 if service is None else Code.UNAUTHENTICATED.value
            refusal = JSONResponse({"code": code, "message": _REFUSAL}, 401)
            await refusal(scope, receive, send)
            return
        try:
            if service is None:
                await self._plain(scope, receive, send)
            else:
                client = departure.Departure(receive)
                departure.current.set(client)
                await service(scope, client.receive, send)
        except Exception:
            # It was answered. The server would close the connection, maybe under the next request.
            _log.exception("a request to %s failed", path)


def _token(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-access-token":
            return str(value, "latin-1")
    return None
