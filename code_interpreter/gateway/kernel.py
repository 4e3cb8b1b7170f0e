"""One kernel: its process and its sockets, from start to end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import zmq

from code_interpreter.gateway.arrival import arrival_of
from code_interpreter.gateway.channels import Channels
from code_interpreter.gateway.kernel_end import KernelEnd
from code_interpreter.gateway.languages import KernelSpec
from code_interpreter.gateway.ledger import KernelRecord, start_ticks
from code_interpreter.gateway.listeners import ClientMessage
from code_interpreter.gateway.memory import MemoryGroup
from code_interpreter.gateway.message import KernelMessage, made_message
from code_interpreter.gateway.place import Place
from code_interpreter.gateway.process_output import ProcessOutput
from code_interpreter.gateway.provisioners import (
    AdoptedProvisioner,
    ColdProvisioner,
    Provisioner,
    WarmProvisioner,
    write_connection_file,
)
from code_interpreter.gateway.starter import KernelStarter

START_DEADLINE = 60.0
"""Seconds from start to the first answer."""
KILL_DEADLINE = 5.0
ADOPTION_DEADLINE = 5.0
"""Seconds that a kernel of an earlier gateway has to leave its cell and answer."""
_NUDGE = 0.04
_LONGEST_NUDGE = 1.0
"""Seconds after which an unanswered first request is sent again, at first and at last: a kernel
that starts slowly must be able to answer them faster than they come."""

REQUEST = "code_interpreter_request"
REPLY = "code_interpreter_reply"

log = logging.getLogger(__name__)


class KernelStartFailed(Exception):
    """The kernel did not come up; the message says how far it got and what it printed."""


class RequestFailed(Exception):
    """The kernel could not do what was asked; ``name`` is the kind of its error."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Owner(Protocol):
    def kernel_said(self, kernel: Kernel, channel: str, message: KernelMessage) -> None: ...

    def kernel_ended(self, kernel: Kernel, end: KernelEnd) -> None: ...


class Kernel:
    """Start it with `start`. Its owner hears every message, and once that it has ended."""

    def __init__(
        self,
        spec: KernelSpec,
        place: Place,
        context: zmq.Context[zmq.Socket[bytes]],
        starter: KernelStarter | None,
        owner: Owner,
    ) -> None:
        self.spec = spec
        self._place = place
        self._zmq = context
        self._starter = starter if spec.warm else None
        self._connection: dict[str, Any] = {}
        self._owner = owner
        self._directory: Path | None = None
        self._output: ProcessOutput | None = None
        self._provisioner: Provisioner | None = None
        self._channels: Channels | None = None
        self._requests: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._nudges: set[str] = set()
        self._answered: set[str] = set()
        self._ready = asyncio.get_running_loop().create_future()
        self.ready = False
        self.used = False
        self.info: dict[str, Any] = {}
        self.environment_version = -1
        self._memory = MemoryGroup(Path(place.config.state_directory))
        self._kills_before = self._memory.kills()

    @property
    def pid(self) -> int | None:
        return None if self._provisioner is None else self._provisioner.pid

    async def start(self, cwd: str, env: dict[str, str]) -> None:
        """Return when it has answered. Raises `KernelStartFailed`; then nothing is left of it."""
        try:
            self._directory = self._place.new_kernel_directory()
            async with asyncio.timeout(START_DEADLINE):
                await self._launch(cwd, env)
                await self._until_ready()
        except TimeoutError:
            raise self._failed(f"did not answer within {START_DEADLINE:.0f} s") from None
        except OSError as error:
            raise self._failed(f"could not be started: {error}") from error
        except BaseException:
            self.close()
            raise

    async def adopt(self, record: KernelRecord) -> None:
        """Take over a kernel that outlived its gateway. Raises `KernelStartFailed`."""
        self._directory = Path(record.directory)
        self._connection = record.connection
        try:
            if start_ticks(record.pid) != record.start_ticks:
                raise self._failed("has ended meanwhile")
            self._provisioner = AdoptedProvisioner()
            self._provisioner.watch(self._process_ended)
            await self._provisioner.launch_kernel([], pid=record.pid, starter=self._starter)
            self._channels = Channels(
                self._zmq, record.connection, self._said, self.spec.high_water
            )
            if self.spec.interruptible:
                self.interrupt()
            async with asyncio.timeout(ADOPTION_DEADLINE):
                await self._until_ready()
        except TimeoutError:
            raise self._failed("does not leave its cell") from None
        except OSError as error:
            raise self._failed(f"cannot be taken over: {error}") from error
        self.used = True

    def record(self) -> KernelRecord | None:
        """What the next gateway needs to take it over."""
        ticks = None if self.pid is None else start_ticks(self.pid)
        if ticks is None or self.pid is None or not self.ready:
            return None
        directory, warm = str(self._directory), self._starter is not None
        return KernelRecord(self.pid, ticks, directory, self._connection, warm)

    def _failed(self, what: str) -> KernelStartFailed:
        text = f"The {self.spec.name} kernel {what}."
        said = self._last_words()
        self.close()
        return KernelStartFailed(f"{text} It printed: {said}" if said else text)

    async def _launch(self, cwd: str, env: dict[str, str]) -> None:
        assert self._directory is not None
        connection = self._connection = self._new_connection(self._directory)
        with arrival_of(connection) as arrival:
            await self._start_process(connection, cwd, {**env, **self.spec.env})
            if arrival is not None:
                await arrival.wait(self._ready)
        if not self._ready.done():
            self._channels = Channels(self._zmq, connection, self._said, self.spec.high_water)

    async def _start_process(
        self, connection: dict[str, Any], cwd: str, environment: dict[str, str]
    ) -> None:
        if self._starter is not None:
            self._provisioner = WarmProvisioner()
            self._provisioner.watch(self._process_ended)
            await self._provisioner.launch_kernel(
                [], starter=self._starter, connection=connection, cwd=cwd, env=environment
            )
            return
        self._provisioner = ColdProvisioner()
        self._provisioner.watch(self._process_ended)
        await self._launch_cold(connection, cwd, environment)

    async def _launch_cold(self, connection: dict[str, Any], cwd: str, env: dict[str, str]) -> None:
        assert self._directory is not None
        assert self._provisioner is not None
        place = self._place
        file = self._directory / "connection.json"
        write_connection_file(file, connection, place.user)
        command = self.spec.command(place.config.python, str(file))
        self._output = output = ProcessOutput()
        stdout, stderr = output.ends_for_child()
        try:
            await self._provisioner.launch_kernel(
                command,
                launcher=place.launcher,
                user=place.user,
                env=env,
                cwd=cwd,
                stdout=stdout,
                stderr=stderr,
            )
        finally:
            output.started()

    def _new_connection(self, directory: Path) -> dict[str, Any]:
        names = ("shell", "iopub", "stdin", "control", "hb")
        if self.spec.transport == "ipc":
            ip, ports = str(directory / "k"), list(range(1, 6))
        else:
            ip, ports = "127.0.0.1", free_ports(5)
        return {
            "transport": self.spec.transport,
            "ip": ip,
            **{f"{name}_port": port for name, port in zip(names, ports, strict=True)},
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
            "kernel_name": self.spec.name,
        }

    async def _until_ready(self) -> None:
        """Until it has answered on the shell channel and its output is being heard."""
        patience = _NUDGE
        while not self._ready.done():
            assert self._channels is not None
            self._nudges.add(self._channels.send("shell", "kernel_info_request", {}))
            await asyncio.wait([self._ready], timeout=patience)
            patience = min(1.2 * patience, _LONGEST_NUDGE)
            if not self._ready.done() and self._provisioner and not self._provisioner.has_process:
                raise self._failed(_end_text(self._provisioner.end))
        self._ready.result()
        self.ready = True
        if self._output is not None:
            self._output.open_to(self._process_said)

    # --- in use ---------------------------------------------------------------------------

    def execute(
        self,
        code: str,
        *,
        silent: bool = False,
        allow_stdin: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Send a cell and return the request's ``msg_id``."""
        self._kills_before = self._memory.kills()
        assert self._channels is not None
        self.used = self.used or not silent
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": False,
        }
        return self._channels.send("shell", "execute_request", content, metadata=metadata)

    def answer_input(self, value: str, request: KernelMessage) -> None:
        assert self._channels is not None
        self._channels.send("stdin", "input_reply", {"value": value}, parent=request.header)

    def pass_on(self, message: ClientMessage) -> None:
        """Send a message that a client of Jupyter's protocol made."""
        assert self._channels is not None
        self.used = self.used or message.is_cell
        frames = self._channels.codec.frames(
            message.header, message.parent, message.metadata, message.content, message.buffers
        )
        self._channels.send_frames(message.channel, frames)

    async def request(self, operation: str, deadline: float, **arguments: Any) -> Any:
        """Have the kernel do something beside its cells; see ``operations`` of our kernels.

        Raises `RequestFailed`, and TimeoutError after ``deadline`` seconds.
        """
        assert self._channels is not None
        content = {"operation": operation, "arguments": arguments}
        message_id = self._channels.send("control", REQUEST, content)
        answer = self._requests[message_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(deadline):
                reply = await answer
        finally:
            del self._requests[message_id]
        if reply.get("status") != "ok":
            raise RequestFailed(str(reply.get("ename")), str(reply.get("evalue")))
        return reply.get("value")

    def interrupt(self) -> None:
        if self.spec.interrupt == "message" and self._channels is not None:
            self._channels.send("control", "interrupt_request", {})
        elif self._provisioner is not None:
            self._provisioner.signal(signal.SIGINT)

    def kill(self) -> None:
        if self._provisioner is not None:
            self._provisioner.signal(signal.SIGKILL)

    async def end(self) -> None:
        """Kill it and wait until it is gone."""
        self.kill()
        if self._provisioner is not None:
            async with asyncio.timeout(KILL_DEADLINE):
                await self._provisioner.wait()

    def belong_to(self, owner: Owner) -> None:
        """From now on ``owner`` hears of it."""
        self._owner = owner

    def close(self) -> None:
        """Let go of everything; the process is killed if it still runs."""
        self.kill()
        if self._channels is not None:
            self._channels.close()
            self._channels = None
        if self._output is not None:
            self._output.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    # --- what it says ---------------------------------------------------------------------

    def _said(self, channel: str, message: KernelMessage) -> None:
        if message.parent_id in self._nudges:
            self._answered_nudge(channel, message)
            return
        if message.type == REPLY:
            answer = self._requests.get(message.parent_id)
            if answer is not None and not answer.done():
                answer.set_result(message.content)
            return
        if message.type == "execute_reply" and self._output is not None:
            self._output.drain()
        self._owner.kernel_said(self, channel, message)

    def _answered_nudge(self, channel: str, message: KernelMessage) -> None:
        if message.type == "kernel_info_reply":
            self.info = message.content
        if channel == "shell" or message.content.get("execution_state") == "idle":
            self._answered.add(channel)
        if len(self._answered) == 2 and not self._ready.done():
            self._ready.set_result(None)

    def _process_said(self, name: str, text: str) -> None:
        message = made_message("stream", {"name": name, "text": text})
        self._owner.kernel_said(self, "iopub", message)

    def _process_ended(self, end: KernelEnd) -> None:
        if self._channels is not None:
            self._channels.drain()
        if self._output is not None and self.ready:
            self._output.drain()
        if end.signal == signal.SIGKILL and self._memory.kills() > self._kills_before:
            end = replace(end, out_of_memory=self._memory.shortage())
        if not self._ready.done():
            failure = self._failed(_end_text(end) + " before it was ready")
            self._ready.set_exception(failure)
            self._ready.exception()  # whoever waits gets it; if nobody does, that is fine
            return
        self.ready = False
        self._owner.kernel_ended(self, end)

    def _last_words(self) -> str:
        if self._output is None:
            return ""
        self._output.drain()
        return self._output.last_words.strip()


def _end_text(end: KernelEnd | None) -> str:
    return "ended" if end is None else end.text()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
