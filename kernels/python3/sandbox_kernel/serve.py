"""Gives a built kernel its sockets, threads and event loop, and serves until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import zmq
from ipykernel.control import ControlThread
from ipykernel.heartbeat import Heartbeat
from zmq.eventloop.zmqstream import ZMQStream

from sandbox_kernel.base import LeanKernel
from sandbox_kernel.build import INLINE
from sandbox_kernel.publisher import Publisher
from sandbox_kernel.requests import ShellRequests

_HIGH_WATER = 16
"""Messages that may wait at each end of the IOPub socket before a cell has to wait."""
_LINGER_MS = 1000
_KINDS = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "iopub": zmq.XPUB, "stdin": zmq.ROUTER}
_SUBSCRIBER_WAIT = 0.5
"""Seconds to wait for the first reader, so that nothing is said to nobody."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a process needs to be a kernel, whichever one it is going to be."""

    context: zmq.Context[zmq.Socket[bytes]]
    sockets: dict[str, zmq.Socket[bytes]]
    """By channel; bound to nothing yet."""
    control_thread: ControlThread


def prepare() -> Prepared:
    """Nothing of it can be taken along by a fork: its threads stay behind."""
    _make_anew()
    context = zmq.Context()
    sockets = {channel: _socket(context, kind) for channel, kind in _KINDS.items()}
    return Prepared(context, sockets, ControlThread(daemon=True))


def serve(kernel: LeanKernel, prepared: Prepared, connection: dict[str, Any]) -> NoReturn:
    """Answer requests on the sockets of ``connection`` (a connection file's content), and exit."""
    signal.signal(signal.SIGINT, kernel.on_early_signal)
    os.environ.setdefault("MPLBACKEND", INLINE)
    context, sockets = prepared.context, prepared.sockets
    for channel, made in sockets.items():
        made.bind(_endpoint(connection, channel))
    shell, control, iopub = sockets["shell"], sockets["control"], sockets["iopub"]
    kernel.stdin_socket = sockets["stdin"]
    _open_session(kernel, connection["key"])
    kernel.connect_outputs(Publisher(iopub))
    kernel.log.addHandler(logging.StreamHandler(kernel.output.log))
    heartbeat = Heartbeat(context, _address_parts(connection))
    heartbeat.start()
    code = _run(kernel, shell, control, prepared.control_thread)
    kernel.output.drain()
    sys.stdout.flush()
    # Other threads may sit in the sockets: end without tearing those down.
    with contextlib.suppress(BaseException):
        _run_exit_handlers()
    iopub.close(_LINGER_MS)
    os._exit(code)


def _make_anew() -> None:
    """Random state and what else must not be shared with other forks of one process."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    tempfile._name_sequence = None  # type: ignore[attr-defined]


def _open_session(kernel: LeanKernel, key: str) -> None:
    session = kernel.session
    session.key = key.encode()
    session.pid = os.getpid()
    session.session = os.urandom(16).hex()


def _endpoint(connection: dict[str, Any], channel: str) -> str:
    port = connection[f"{channel}_port"]
    if connection["transport"] == "ipc":
        return f"ipc://{connection['ip']}-{port}"
    return f"tcp://{connection['ip']}:{port}"


def _address_parts(connection: dict[str, Any]) -> tuple[str, str, int]:
    return connection["transport"], connection["ip"], connection["hb_port"]


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    made = context.socket(kind)
    made.linger = _LINGER_MS
    if kind == zmq.XPUB:
        made.sndhwm = _HIGH_WATER
        made.setsockopt(zmq.XPUB_NODROP, 1)
    else:
        made.setsockopt(zmq.ROUTER_HANDOVER, 1)
    return made


def _run(
    kernel: LeanKernel,
    shell: zmq.Socket[bytes],
    control: zmq.Socket[bytes],
    control_thread: ControlThread,
) -> int:
    kernel.control_thread = control_thread
    kernel.control_stream = ZMQStream(control, control_thread.io_loop)
    kernel.shell_stream = shell
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.call_soon(partial(_start, kernel, shell, control_thread))
    try:
        loop.run_forever()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    return 0


def _start(kernel: LeanKernel, shell: zmq.Socket[bytes], control_thread: ControlThread) -> None:
    kernel.publisher.wait_for_subscriber(_SUBSCRIBER_WAIT)
    _wake_on_signals(asyncio.get_running_loop())
    kernel.start()
    control_thread.start()
    requests = ShellRequests(shell, partial(kernel.shell_main, None))
    requests.listen(asyncio.get_running_loop())


def _wake_on_signals(loop: asyncio.AbstractEventLoop) -> None:
    """What a signal handler adds to a waiting loop is seen only when something wakes it."""
    read, write = socket.socketpair()
    for end in (read, write):
        end.setblocking(False)
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    write.detach()
    loop.add_reader(read, read.recv, 4096)


def _run_exit_handlers() -> None:
    import atexit

    atexit._run_exitfuncs()
