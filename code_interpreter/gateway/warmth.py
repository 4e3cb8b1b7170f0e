"""What the gateway goes through once so that its forks find everything in memory and in use.

Memory that is written after a fork is a copy of its own; what is made before is shared. So a
whole gateway serves a client here, with a kernel that is forked for it, and ends: no thread,
process or file of it is left. Then both are tried out as forks, to see what those write to.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import zmq
from tornado.httpserver import HTTPServer

from code_interpreter.gateway.gateway import Gateway
from code_interpreter.gateway.main import make_application, make_gateway
from code_interpreter.gateway.rehearsal import opening_handshake
from code_interpreter.guest import copying_ahead, syscalls
from code_interpreter.guest.config import GuestConfig
from code_interpreter.protocol.executions import Execute

DEADLINE = 20.0
"""Seconds for all of it; a machine too busy for that goes on without."""
TIMES = 10
"""Python rewrites code (its counters and caches) for a while until it lets it be."""
_KERNELS = "kernel_start"
"""The module that makes a kernel of this process; without it there is none."""


def warm_up() -> None:
    """Call it in a process with one thread, after the kernels' own warm-up."""
    with tempfile.TemporaryDirectory() as directory:
        if _KERNELS not in sys.modules:
            asyncio.run(_serve(Path(directory), None))
            return
        with _an_init() as line:
            asyncio.run(_serve(Path(directory), line))


def note_what_forks_write() -> None:
    """Try out a gateway and a kernel that are forks of this process, when it is warm."""
    if _KERNELS not in sys.modules or not copying_ahead.is_possible():
        return
    try:
        written = _try_out()
        for kind in copying_ahead.KINDS:
            copying_ahead.note(kind, written.get(kind, ()))
    except (OSError, ValueError) as error:
        print(f"forks copy memory when they write to it: {error!r}", file=sys.stderr, flush=True)


def _try_out() -> dict[str, copying_ahead.Pages]:
    """What was written to, by kind, or nothing. Raises OSError and ValueError."""
    ours, theirs = socket.socketpair()
    ours.settimeout(2 * DEADLINE)
    with tempfile.TemporaryDirectory() as directory, ours, _an_init() as line:
        gateway = os.fork()
        if gateway == 0:
            _be_gateway(Path(directory), line, theirs)
        theirs.close()
        try:
            with ours.makefile() as report:
                written: dict[str, copying_ahead.Pages] = json.loads(report.read() or "{}")
            return written
        finally:
            os.kill(gateway, signal.SIGKILL)  # has ended already, if all went well
            os.waitpid(gateway, 0)


def _be_gateway(directory: Path, starter: socket.socket, report: socket.socket) -> NoReturn:
    def say(gateway: Gateway) -> None:
        kernels = (context.record(default=True).kernel for context in gateway.contexts())
        [kernel] = [each for each in kernels if each is not None]
        pids: dict[copying_ahead.Kind, int] = {"gateway": os.getpid(), "kernel": kernel.pid}
        written = {kind: copying_ahead.own_pages(pid) for kind, pid in pids.items()}
        report.sendall(json.dumps(written).encode())

    try:
        syscalls.die_with_parent()
        asyncio.run(_serve(directory, starter, say))
    except BaseException:  # the child must never return into the fork server
        traceback.print_exc()
    finally:
        os._exit(0)


@contextlib.contextmanager
def _an_init() -> Iterator[socket.socket]:
    """The gateway's end of the line to a process that forks one kernel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    init = os.fork()
    if init == 0:
        _be_init(theirs)
    theirs.close()
    try:
        with ours:
            yield ours
    finally:
        os.kill(init, signal.SIGKILL)  # has ended already, if all went well
        os.waitpid(init, 0)


# --- the gateway ------------------------------------------------------------------------


async def _serve(
    directory: Path,
    starter: socket.socket | None,
    at_the_end: Callable[[Gateway], None] = lambda gateway: None,
) -> None:
    config = GuestConfig(
        isolated=False,
        home=str(directory),
        state_directory=str(directory),
        jupyter_path=str(Path(__file__).parents[2]),
        kernel_starter_fd=None if starter is None else starter.detach(),
    )
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "socket"))
    listener.listen()
    listener.setblocking(False)
    context = zmq.Context()
    gateway = make_gateway(config, context)
    server = HTTPServer(make_application(gateway))
    server.add_sockets([listener])
    try:
        async with asyncio.timeout(DEADLINE):
            await _be_client(directory / "socket", with_kernel=starter is not None)
            at_the_end(gateway)
    except TimeoutError:
        print("the gateway's warm-up took too long", file=sys.stderr, flush=True)
    finally:
        server.stop()
        await gateway.close()
        await server.close_all_connections()
        context.destroy(linger=0)


# --- its client -------------------------------------------------------------------------


async def _be_client(path: Path, *, with_kernel: bool) -> None:
    for _ in range(TIMES):
        await _post(path, "/init", {"envVars": {}, "sandboxId": "none"})
    if not with_kernel:
        return
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(opening_handshake())
    await reader.readuntil(b"\r\n\r\n")
    for number in range(TIMES):
        message = Execute(execution_id=f"warm-{number}", code="print(1)\n1 + 1")
        writer.write(_text_frame(message.model_dump_json().encode()))
        await reader.readuntil(b'"end_of_execution"')
    writer.close()
    await writer.wait_closed()


async def _post(path: Path, place: str, body: object) -> None:
    content = json.dumps(body).encode()
    head = f"POST {place} HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {len(content)}\r\n"
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + content)
    await reader.read()
    writer.close()
    await writer.wait_closed()


def _text_frame(content: bytes) -> bytes:
    """Masked with zeros, RFC 6455, 5.2."""
    return struct.pack("!BBHI", 0x81, 0xFE, len(content), 0) + content


# --- its init ---------------------------------------------------------------------------


def _be_init(line: socket.socket) -> NoReturn:
    """What init is to a gateway, for one kernel."""
    try:
        syscalls.die_with_parent()
        os.closerange(3, line.fileno())
        os.closerange(line.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        request = json.loads(line.recv(1 << 20))
        kernel = os.fork()
        if kernel == 0:
            os.setsid()
            syscalls.die_with_parent()
            os.environ.clear()
            os.environ.update(request["env"])
            os.chdir(request["cwd"])
            line.close()
            importlib.import_module(_KERNELS).kernel_main(
                request["connection"], request["cwd"], request["env"]
            )
        line.send(json.dumps({"request": request["request"], "pid": kernel}).encode())
        os.waitpid(kernel, 0)
        line.send(json.dumps({"exited": kernel, "exit_code": 0}).encode())
    finally:
        os._exit(0)
