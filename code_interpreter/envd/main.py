"""envd's server: one unix socket, and the port opener beside it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor

import uvicorn
import uvloop
from starlette.types import ASGIApp

from code_interpreter.envd.app import make_app
from code_interpreter.envd.server import Server
from code_interpreter.guest.config import GuestConfig, listening_socket
from code_interpreter.guest.ports import serve_ports

KEEP_ALIVE = 640
"""Seconds that an idle connection stays open; longer than any client keeps its own (300)."""
GRACE = 1
"""Seconds that running requests have after SIGTERM."""
MOST_FILES = 65536
"""Descriptors: a command takes three or four, and many may run at once."""
MOST_THREADS = 64
"""For work on files; a slow client may hold one for a while."""


def run(config: GuestConfig) -> None:
    """Serve until killed or idle. To be called once, in a process without threads."""
    os.umask(0o022)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a process that does not read is no reason
    _raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def server_config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        server_header=False,
        date_header=False,  # it would have to be renewed every second
    )


async def _serve(config: GuestConfig) -> None:
    app = make_app(config)
    server = Server(server_config(app), app.in_use, config.idle_seconds)
    threads = ThreadPoolExecutor(MOST_THREADS, "envd")
    asyncio.get_running_loop().set_default_executor(threads)
    listener = listening_socket(config.listen_fd, config.listen_path)
    async with asyncio.TaskGroup() as group:
        ports = None
        if config.ports_fd is not None or config.ports_path is not None:
            opener = listening_socket(config.ports_fd, config.ports_path)
            ports = group.create_task(serve_ports(opener))
        await server.serve(sockets=[listener])
        if ports is not None:
            ports.cancel()
