"""``process.Process`` over Connect: commands and terminals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from e2b.envd.process.process_connect import Process as ProcessProtocol
from e2b.envd.process.process_pb import (
    CloseStdinRequest,
    CloseStdinResponse,
    ConnectRequest,
    ConnectResponse,
    ListRequest,
    ListResponse,
    ProcessEvent,
    ProcessInput,
    ProcessSelector,
    SendInputRequest,
    SendInputResponse,
    SendSignalRequest,
    SendSignalResponse,
    Signal,
    StartRequest,
    StartResponse,
    StreamInputRequest,
    StreamInputResponse,
    UpdateRequest,
    UpdateResponse,
)
from protobuf import Oneof

from code_interpreter.envd import departure
from code_interpreter.envd.process import Command, Ended, Process, Stop
from code_interpreter.envd.process_messages import (
    event_message,
    process_info,
    read_command,
    start_message,
)
from code_interpreter.envd.processes import NoSuchProcess, Processes, set_terminal_size
from code_interpreter.envd.refusals import refusals
from code_interpreter.envd.state import State
from code_interpreter.envd.streams import InputRefused

MOST_SILENCE = 3.0
"""Seconds before a keepalive, unless the client asks for more of them. E2B's Python clients
look at Ctrl-C only when something arrives, and ask for one in 50 seconds."""
_SIGNALS = {Signal.SIGTERM: signal.SIGTERM, Signal.SIGKILL: signal.SIGKILL}
Context = RequestContext[Any, Any]


class ProcessService(ProcessProtocol):
    def __init__(self, state: State, processes: Processes) -> None:
        self._state = state
        self._processes = processes

    async def list(self, request: ListRequest, ctx: Context) -> ListResponse:
        return ListResponse(processes=list(map(process_info, self._processes.running())))

    async def start(self, request: StartRequest, ctx: Context) -> AsyncIterator[StartResponse]:
        process = await self._start(request, ctx)
        try:
            async for event in _events(process, ctx):
                yield StartResponse(event=event)
        except TimeoutError as error:
            raise ConnectError(
                Code.DEADLINE_EXCEEDED,
                f"the process did not end within its time-out and was killed (pid {process.pid})",
            ) from error

    async def _start(self, request: StartRequest, ctx: Context) -> Process:
        with refusals():
            user = self._state.user_of(ctx.request_headers.get("authorization"))
            command = read_command(request, user, self._state.default_workdir)
        try:
            process = await self._processes.start(command, user, self._state.environment(user))
        except OSError as error:
            raise _not_started(error, command) from error
        except ValueError as error:  # a size that no terminal has
            raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error
        if (left := ctx.timeout_ms) is not None:
            process.kill_after(left / 1000, self._processes.clock)
        return process

    async def connect(
        self, request: ConnectRequest, ctx: Context
    ) -> AsyncIterator[ConnectResponse]:
        process = self._find(request.process)
        try:
            async for event in _events(process, ctx):
                yield ConnectResponse(event=event)
        except TimeoutError as error:
            raise ConnectError(
                Code.DEADLINE_EXCEEDED, "the process did not end within this connection's time-out"
            ) from error

    async def update(self, request: UpdateRequest, ctx: Context) -> UpdateResponse:
        process = self._find(request.process)
        if request.pty is not None and (size := request.pty.size) is not None:
            with refusals():
                set_terminal_size(process.terminal(), size.cols, size.rows)
        return UpdateResponse()

    async def send_input(self, request: SendInputRequest, ctx: Context) -> SendInputResponse:
        await _write(self._find(request.process), request.input)
        return SendInputResponse()

    async def stream_input(
        self, request: AsyncIterator[StreamInputRequest], ctx: Context
    ) -> StreamInputResponse:
        process: Process | None = None
        async for message in request:
            match message.event:
                case Oneof(value=StreamInputRequest.StartEvent() as start):
                    process = self._find(start.process)
                case Oneof(value=StreamInputRequest.DataEvent() as data):
                    if process is None:
                        raise ConnectError(
                            Code.INVALID_ARGUMENT, "the first message must name the process"
                        )
                    await _write(process, data.input)
                case _:
                    pass
        return StreamInputResponse()

    async def send_signal(self, request: SendSignalRequest, ctx: Context) -> SendSignalResponse:
        number = _SIGNALS.get(request.signal)
        if number is None:
            raise ConnectError(Code.INVALID_ARGUMENT, "signal must be SIGTERM or SIGKILL")
        process = self._find(request.process)
        if not process.signal(number):
            raise ConnectError(Code.NOT_FOUND, f"process with pid {process.pid} has ended already")
        return SendSignalResponse()

    async def close_stdin(self, request: CloseStdinRequest, ctx: Context) -> CloseStdinResponse:
        process = self._find(request.process)
        with refusals():
            process.close_stdin()
        return CloseStdinResponse()

    def _find(self, selector: ProcessSelector | None) -> Process:
        try:
            match selector.selector if selector is not None else None:
                case Oneof(field="pid", value=int(pid)):
                    return self._processes.find(pid=pid)
                case Oneof(field="tag", value=str(tag)):
                    return self._processes.find(tag=tag)
        except NoSuchProcess as error:
            raise ConnectError(Code.NOT_FOUND, str(error)) from error
        raise ConnectError(Code.INVALID_ARGUMENT, "a process is selected by pid or by tag")


def _not_started(error: OSError, command: Command) -> ConnectError:
    if error.filename == command.cwd and isinstance(error, FileNotFoundError):
        return ConnectError(Code.INVALID_ARGUMENT, f"cwd '{command.cwd}' does not exist")
    reason = (error.strerror or str(error)).lower()
    if error.filename == command.cwd:
        return ConnectError(Code.INVALID_ARGUMENT, f"cwd '{command.cwd}': {reason}")
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        return ConnectError(Code.INVALID_ARGUMENT, f"program '{command.cmd}': {reason}")
    if error.errno == errno.E2BIG:
        reason = "its arguments and variables together are too long: use a file, or its input"
        return ConnectError(Code.INVALID_ARGUMENT, f"'{command.cmd}' cannot be started: {reason}")
    if error.errno == errno.EAGAIN:
        reason = "the sandbox has as many processes and threads as it may have"
        return ConnectError(Code.RESOURCE_EXHAUSTED, f"'{command.cmd}' not started: {reason}")
    return ConnectError(Code.INTERNAL, f"'{command.cmd}' could not be started: {reason}")


async def _write(process: Process, data: ProcessInput | None) -> None:
    with refusals():
        match data.input if data is not None else None:
            case Oneof(field="stdin", value=content):
                await process.write(content, to_terminal=False)
            case Oneof(field="pty", value=content):
                await process.write(content, to_terminal=True)
            case _:
                raise InputRefused("the input is empty; give stdin or pty")


# --- events -----------------------------------------------------------------------------


def _deadline(ctx: Context) -> float | None:
    """When the client's time-out is over, on the loop's clock."""
    left = ctx.timeout_ms
    return None if left is None else asyncio.get_running_loop().time() + left / 1000


async def _events(process: Process, ctx: Context) -> AsyncIterator[ProcessEvent]:
    """Start, output as it comes, keepalives in silence, end. Raises TimeoutError."""
    listener = process.listen()
    idle = keepalive_interval(ctx)
    with contextlib.ExitStack() as stack:
        stack.callback(listener.leave)
        stack.enter_context(departure.current.get().calls(lambda: listener.stop(Stop.GONE)))
        stack.enter_context(_at(_deadline(ctx), lambda: listener.stop(Stop.EXPIRED)))
        yield start_message(process)
        while True:
            event = await listener.next(idle)
            if event is Stop.GONE:
                return
            if event is Stop.EXPIRED:
                raise TimeoutError
            yield event_message(event)
            if isinstance(event, Ended):
                return


@contextlib.contextmanager
def _at(deadline: float | None, call: Callable[[], None]) -> Iterator[None]:
    timer = None
    if deadline is not None:
        timer = asyncio.get_running_loop().call_at(deadline, call)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def keepalive_interval(ctx: Context) -> float:
    """Seconds, as the client asks for them, but never long."""
    try:
        asked = float(ctx.request_headers.get("keepalive-ping-interval") or "")
    except ValueError:
        return MOST_SILENCE
    return min(max(1.0, asked), MOST_SILENCE)
