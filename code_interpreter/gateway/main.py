"""The gateway process: from a `GuestConfig` to a server that listens."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import zmq
from tornado.httpserver import HTTPServer
from tornado.web import Application, ErrorHandler

from code_interpreter.gateway import http, jupyter
from code_interpreter.gateway.context import Machinery
from code_interpreter.gateway.environment import SandboxEnvironment
from code_interpreter.gateway.gateway import Gateway
from code_interpreter.gateway.jupyter_channels import Channels
from code_interpreter.gateway.jupyter_sessions import SessionStore
from code_interpreter.gateway.languages import Languages
from code_interpreter.gateway.ledger import Ledger
from code_interpreter.gateway.live_kernels import LiveKernels
from code_interpreter.gateway.place import Place
from code_interpreter.gateway.rehearsal import rehearse
from code_interpreter.gateway.starter import KernelStarter
from code_interpreter.gateway.websocket import Executions
from code_interpreter.guest import copying_ahead
from code_interpreter.guest.awake import AwakeClock
from code_interpreter.guest.config import GuestConfig, listening_socket
from code_interpreter.protocol.executions import MAX_MESSAGE_BYTES, PATH

AHEAD_SECONDS = 0.3
"""After which a gateway that nobody was introduced to must have been started ahead of its use."""
MAX_BODY_BYTES = 1 << 40
"""tornado's own limit would cut the connection; `http.Handler` answers 413 instead."""

log = logging.getLogger(__name__)


def run(config: GuestConfig) -> None:
    """Serve until SIGTERM or SIGINT. Call it in a process with one thread."""
    logging.basicConfig(level=logging.WARNING, format="gateway: %(levelname)s %(message)s")
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    asyncio.run(_serve(config))


async def _serve(config: GuestConfig) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sockets = zmq.Context()
    gateway = make_gateway(config, sockets)
    listener = listening_socket(config.listen_fd, config.listen_path)
    listener.setblocking(False)
    server = HTTPServer(make_application(gateway), max_body_size=MAX_BODY_BYTES)
    server.add_sockets([listener])
    gateway.start()
    rehearsal = asyncio.create_task(_rehearse(gateway, server, sockets, config))
    await stop.wait()
    rehearsal.cancel()
    server.stop()
    await gateway.close()


async def _rehearse(
    gateway: Gateway,
    server: HTTPServer,
    sockets: zmq.Context[zmq.Socket[bytes]],
    config: GuestConfig,
) -> None:
    await asyncio.sleep(AHEAD_SECONDS)
    if gateway.is_unused:
        copying_ahead.copy("gateway")
    if gateway.introduced:
        return
    try:
        await rehearse(server, sockets, Path(config.state_directory))
    except (OSError, EOFError, zmq.ZMQError) as error:  # also TimeoutError
        log.warning("what could be done ahead was not done: %r", error)


def make_gateway(config: GuestConfig, sockets: zmq.Context[zmq.Socket[bytes]]) -> Gateway:
    """One that has not been started; ``sockets`` is where those to its kernels are made."""
    starter = None
    if config.kernel_starter_fd is not None:
        starter = KernelStarter(config.kernel_starter_fd)
    place = Place.of(config)
    machinery = Machinery(
        place, sockets, starter, SandboxEnvironment(), lambda: gateway.save(), AwakeClock()
    )
    ledger = Ledger(Path(config.state_directory))
    languages = Languages(Path(config.jupyter_path))
    gateway = Gateway(
        languages, machinery, ledger, config.home, config.max_contexts, config.max_queued
    )
    return gateway


def make_application(gateway: Gateway | None) -> Application:
    arguments = {"gateway": gateway}
    live = gateway and LiveKernels(gateway)
    kernels = {**arguments, "live": live}
    sessions = {**kernels, "sessions": live and SessionStore(live)}
    return Application(
        [
            ("/health", http.Health, arguments),
            ("/init", http.Init, arguments),
            ("/unused", http.Unused, arguments),
            ("/freeze", http.Freeze, arguments),
            ("/settled", http.Settled, arguments),
            ("/execute", http.Execute, arguments),
            ("/contexts/?", http.Contexts, arguments),
            ("/contexts/([^/]+)", http.OneContext, arguments),
            ("/contexts/([^/]+)/restart", http.Restart, arguments),
            ("/contexts/([^/]+)/notebook", http.Notebook, arguments),
            ("/contexts/([^/]+)/variables", http.Variables, arguments),
            ("/contexts/([^/]+)/tables/([0-9a-f]+)", http.Table, arguments),
            (PATH, Executions, arguments),
            *((path, jupyter.Page, arguments) for path in ("/", "/lab", "/tree")),
            ("/api/?", jupyter.Root, arguments),
            ("/api/status", jupyter.Status, arguments),
            ("/api/me", jupyter.Me, arguments),
            ("/api/kernelspecs", jupyter.KernelSpecs, kernels),
            ("/api/kernelspecs/([^/]+)", jupyter.OneKernelSpec, kernels),
            ("/api/kernels", jupyter.Kernels, kernels),
            ("/api/kernels/([^/]+)", jupyter.OneKernel, kernels),
            ("/api/kernels/([^/]+)/(interrupt|restart)", jupyter.KernelAction, kernels),
            ("/api/kernels/([^/]+)/channels", Channels, kernels),
            ("/api/sessions", jupyter.Sessions, sessions),
            ("/api/sessions/([^/]+)", jupyter.OneSession, sessions),
            ("/api/.*", jupyter.Missing, arguments),
        ],
        default_handler_class=ErrorHandler,
        default_handler_args={"status_code": 404},
        websocket_max_message_size=MAX_MESSAGE_BYTES,
    )
