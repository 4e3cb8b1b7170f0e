"""What envd goes through once so that its forks find everything in memory and in use.

Memory that is written after a fork is a copy of its own; what is made before is shared.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from starlette.types import ASGIApp

from code_interpreter.envd.app import make_app
from code_interpreter.envd.main import server_config
from code_interpreter.guest.config import GuestConfig

_REQUESTS = (
    ("GET", "/health", b""),
    ("GET", "/envs", b""),
    ("POST", "/process.Process/List", b"{}"),
    ("POST", "/filesystem.Filesystem/RemoveWatcher", b'{"watcherId": "none"}'),
)
TIMES = 30
"""Python rewrites code (its counters and caches) for a while until it lets it be."""


def warm_up() -> None:
    """Answer a few requests in memory: no socket, thread, process or file is made."""
    app = make_app(GuestConfig(isolated=False, home="/", state_directory="/nonexistent"))
    server_config(app).load()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for method, path, body in _REQUESTS * TIMES:
            runner.run(_ask(app, method, path, body))


async def _ask(app: ASGIApp, method: str, path: str, body: bytes) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"sandbox"), (b"content-type", b"application/json")],
        "client": None,
        "server": None,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: object) -> None:
        pass

    await app(scope, receive, send)
