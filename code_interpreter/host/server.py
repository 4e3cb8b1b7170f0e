"""A whole host: lock, store, runtime, lifecycle, API and edge, put together and taken apart."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn

from code_interpreter.host import box_logs
from code_interpreter.host.api.app import make_app
from code_interpreter.host.api.gate import Gate
from code_interpreter.host.assembly import choose_runtime
from code_interpreter.host.data_directory import DataDirectory
from code_interpreter.host.edge import Edge
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.host.routes import HostRoutes
from code_interpreter.host.runtimes.base import RuntimeFailure, SandboxRuntime
from code_interpreter.host.settings import Settings
from code_interpreter.host.store import Store
from code_interpreter.host.tasks import Tasks
from code_interpreter.protocol.control import HostFile

API_STOP_DEADLINE = 5
"""Seconds that requests under way have when the host stops."""
IDLE_CHECK = 1.0
MOST_FILES = 65536
NICENESS = -5
_log = logging.getLogger(__name__)


class PortUnusable(Exception):
    """The address or port cannot be listened on; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a host answers, and with which key."""

    url: str
    api_key: str
    runtime: SandboxRuntime
    limits_not_enforced: tuple[str, ...]


class SaysReady(Protocol):
    def __call__(self, ready: Ready) -> None: ...


async def serve(
    settings: Settings,
    *,
    embedded: bool = False,
    keep_sandboxes: bool = False,
    on_ready: SaysReady,
    on_progress: Callable[[str], None],
) -> None:
    """Run a host until SIGINT, SIGTERM or, embedded, until it has been idle for long enough.

    A clean stop ends the sandboxes, unless ``keep_sandboxes``; those of a host that was
    killed live on, and the next host on this data directory adopts them. Raises
    `DataDirectoryUnusable`, `StoreUnusable`, `RuntimeFailure` and `PortUnusable`.
    """
    _raise_file_limit()
    _leave_no_core_dump()
    _come_before_sandboxes()
    data = DataDirectory(settings.data_dir)
    data.prepare()
    with data.locked(), _stop_signals() as stop:
        data.progress.unlink(missing_ok=True)
        progress = _say_both(data, on_progress) if embedded else on_progress
        try:
            async with _running(settings, data, progress, keep_sandboxes) as host:
                data.write_host_file(
                    HostFile(
                        pid=os.getpid(),
                        url=host.ready.url,
                        api_key=host.ready.api_key,
                        embedded=embedded,
                    )
                )
                on_ready(host.ready)
                await host.until_stopped(stop, settings.idle_stop if embedded else 0)
                # At once: who looks for a host now has to wait for the next one.
                data.host_file.unlink(missing_ok=True)
        finally:
            data.host_file.unlink(missing_ok=True)
            data.progress.unlink(missing_ok=True)


def _raise_file_limit() -> None:
    """Each connection of a client takes a descriptor, and one more towards its sandbox."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave_no_core_dump() -> None:
    """It would have every secret of the host in it; what it starts leaves none either."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _come_before_sandboxes() -> None:
    """Whatever they do, this process answers; only root may say so."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


@dataclass(frozen=True, slots=True)
class _Host:
    ready: Ready
    lifecycle: Lifecycle
    gate: Gate

    async def until_stopped(self, stop: asyncio.Event, idle_stop: float) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_CHECK if idle_stop else None):
                    await stop.wait()
            if idle_stop and self._idle_seconds() >= idle_stop:
                _log.info("idle for %g s: this host stops", idle_stop)
                return

    def _idle_seconds(self) -> float:
        if len(self.lifecycle.registry) or self.gate.under_way:
            return 0
        last = max(self.gate.last_request, self.lifecycle.last_end)
        return time.monotonic() - last


@contextlib.asynccontextmanager
async def _running(
    settings: Settings, data: DataDirectory, progress: Callable[[str], None], keep: bool
) -> AsyncIterator[_Host]:
    runtime, templates = await choose_runtime(settings, progress)
    key = settings.api_key.get_secret_value() if settings.api_key else data.api_key()
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store(data.store))
        reservation = stack.enter_context(_reserve(settings.host, settings.port))
        port = reservation.getsockname()[1]
        domain = settings.domain or f"localhost:{port}"
        _warn_if_reachable(settings.host)
        await runtime.start()
        stack.push_async_callback(runtime.stop)
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        tasks.spawn(box_logs.keep_small(data.run), "logs of sandboxes")
        lifecycle = Lifecycle(settings, runtime, store, templates)
        edge = Edge(
            HostRoutes(lifecycle),
            data.api_socket,
            domain=settings.domain,
            patience=settings.guest_patience,
        )
        lifecycle.on_unreachable = edge.disconnect
        stack.push_async_callback(edge.close)
        stack.push_async_callback(lifecycle.stop, end_sandboxes=not keep)
        await lifecycle.start()
        if not len(lifecycle.registry):
            tasks.spawn(templates.remove_unused(), "removal of old templates")
        await _warm_up(runtime, lifecycle, tasks)
        gate = Gate(make_app(lifecycle, templates, api_key=key, domain=domain), api_key=key)
        await stack.enter_async_context(_api(gate, data))
        stack.callback(edge.refuse_all)
        try:
            await edge.serve(settings.host, port)
        except OSError as error:
            raise _port_unusable(settings.host, port, error) from error
        reservation.close()
        url = f"http://{_name_to_call(settings.host)}:{port}"
        ready = Ready(url, key, runtime, lifecycle.limits.dropped)
        yield _Host(ready, lifecycle, gate)


async def _warm_up(runtime: SandboxRuntime, lifecycle: Lifecycle, tasks: Tasks) -> None:
    """Who has sandboxes already does not wait until others can be made."""
    if len(lifecycle.registry):
        tasks.spawn(_try_to_warm_up(runtime), "getting ready to make sandboxes")
    else:
        await runtime.warm_up()


async def _try_to_warm_up(runtime: SandboxRuntime) -> None:
    try:
        await runtime.warm_up()
    except RuntimeFailure as error:
        _log.warning("no sandbox can be made yet: %s", error)


def _reserve(host: str, port: int) -> socket.socket:
    """Bind the port without listening: one that is in use is found before anything is done.

    Another socket may listen on it as long as this one does not (SO_REUSEADDR, socket(7)).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reservation = socket.socket(family, socket.SOCK_STREAM)
    try:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((host, port))
    except OSError as error:
        reservation.close()
        raise _port_unusable(host, port, error) from error
    return reservation


def _port_unusable(host: str, port: int, error: OSError) -> PortUnusable:
    return PortUnusable(
        f"port {port} of {host} cannot be listened on ({error.strerror}): choose another one "
        "with --port, or --port 0 for any free one"
    )


def _warn_if_reachable(host: str) -> None:
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(host).is_loopback:
            _log.warning(
                "listening on %s: whoever reaches this machine reaches this host, and the key "
                "goes over the network in clear; put a proxy with TLS in front",
                host,
            )


def _name_to_call(host: str) -> str:
    """A host that listens everywhere is called by its loopback address on this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{host}]" if address.version == 6 else host


class _Uvicorn(uvicorn.Server):
    """Leaves signals to `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _api(gate: Gate, data: DataDirectory) -> AsyncIterator[None]:
    config = uvicorn.Config(
        gate,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=640,
        timeout_graceful_shutdown=API_STOP_DEADLINE,
    )
    server = _Uvicorn(config)
    with _unix_listener(data.api_socket) as listener:
        serving = server.serve(sockets=[listener])
        task = asyncio.get_running_loop().create_task(serving, name="api")
        try:
            yield
        finally:
            server.should_exit = True
            await task


@contextlib.contextmanager
def _unix_listener(path: Path) -> Iterator[socket.socket]:
    """A listening socket that only this user may connect to."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1024)
        yield listener
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set; a second one does no more than the first."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _say_both(data: DataDirectory, say: Callable[[str], None]) -> Callable[[str], None]:
    def progress(line: str) -> None:
        data.say_progress(line)
        say(line)

    return progress
