"""``process.Process`` over Connect: commands and terminals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

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
    ProcessConfig,
    ProcessEvent,
    ProcessInfo,
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

from code_interpreter.envd.paths import BadPath, resolve
from code_interpreter.envd.processes import (
    Command,
    Ended,
    Event,
    NoSuchProcess,
    Output,
    Process,
    Processes,
    WrongInput,
)
from code_interpreter.envd.state import State
from code_interpreter.guest.users import UnknownUser, User

DEFAULT_KEEPALIVE = 90.0
"""Seconds of silence before a keepalive, unless the client asks for another number."""
_SIGNALS = {Signal.SIGTERM: signal.SIGTERM, Signal.SIGKILL: signal.SIGKILL}
_DEFAULT_SIZE = (80, 24)
# Typed, so that the messages' unions can be told apart.
_START: Literal["start"] = "start"
_DATA: Literal["data"] = "data"
_END: Literal["end"] = "end"
_KEEPALIVE: Literal["keepalive"] = "keepalive"
_STDOUT: Literal["stdout"] = "stdout"
_STDERR: Literal["stderr"] = "stderr"
_PTY: Literal["pty"] = "pty"
_Context = RequestContext[Any, Any]


class ProcessService(ProcessProtocol):
    def __init__(self, state: State, processes: Processes) -> None:
        self._state = state
        self._processes = processes

    async def list(self, request: ListRequest, ctx: _Context) -> ListResponse:
        return ListResponse(processes=[_info(process) for process in self._processes.all()])

    async def start(self, request: StartRequest, ctx: _Context) -> AsyncIterator[StartResponse]:
        user = _user(self._state, ctx)
        command = _command(request, user, self._state.default_workdir)
        requested = request.process.cwd if request.process and request.process.cwd else None
        try:
            process, queue = self._processes.start(
                command, user, self._state.environment(user), requested
            )
        except OSError as error:
            raise _not_started(error, command) from error
        deadline = _deadline(ctx)
        try:
            async for event in _events(process, queue, ctx, deadline):
                yield StartResponse(event=event)
        except TimeoutError as error:
            process.signal(signal.SIGKILL)
            raise ConnectError(
                Code.DEADLINE_EXCEEDED, "the command did not end within its time-out"
            ) from error
        finally:
            process.unsubscribe(queue)

    async def connect(
        self, request: ConnectRequest, ctx: _Context
    ) -> AsyncIterator[ConnectResponse]:
        process = self._find(request.process)
        queue = process.subscribe()
        try:
            async for event in _events(process, queue, ctx, _deadline(ctx)):
                yield ConnectResponse(event=event)
        except TimeoutError as error:
            raise ConnectError(
                Code.DEADLINE_EXCEEDED, "the process did not end within the time-out"
            ) from error
        finally:
            process.unsubscribe(queue)

    async def update(self, request: UpdateRequest, ctx: _Context) -> UpdateResponse:
        process = self._find(request.process)
        if request.pty is not None and request.pty.size is not None:
            with _refusals():
                process.resize(request.pty.size.cols, request.pty.size.rows)
        return UpdateResponse()

    async def send_input(self, request: SendInputRequest, ctx: _Context) -> SendInputResponse:
        await _write(self._find(request.process), request.input)
        return SendInputResponse()

    async def stream_input(
        self, request: AsyncIterator[StreamInputRequest], ctx: _Context
    ) -> StreamInputResponse:
        process: Process | None = None
        async for message in request:
            match message.event.value if message.event is not None else None:
                case StreamInputRequest.StartEvent() as start:
                    process = self._find(start.process)
                case StreamInputRequest.DataEvent() as data:
                    if process is None:
                        raise ConnectError(
                            Code.INVALID_ARGUMENT, "the first message must name the process"
                        )
                    await _write(process, data.input)
                case _:
                    pass
        return StreamInputResponse()

    async def send_signal(self, request: SendSignalRequest, ctx: _Context) -> SendSignalResponse:
        number = _SIGNALS.get(request.signal)
        if number is None:
            raise ConnectError(Code.INVALID_ARGUMENT, "signal must be SIGTERM or SIGKILL")
        process = self._find(request.process)
        if process.ended is not None:
            raise ConnectError(Code.NOT_FOUND, f"process with pid {process.pid} not found")
        process.signal(number)
        return SendSignalResponse()

    async def close_stdin(self, request: CloseStdinRequest, ctx: _Context) -> CloseStdinResponse:
        with _refusals():
            self._find(request.process).close_stdin()
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


def _user(state: State, ctx: _Context) -> User:
    try:
        return state.user_of(ctx.request_headers.get("authorization"))
    except UnknownUser as error:
        raise ConnectError(Code.UNAUTHENTICATED, str(error)) from error


def _command(request: StartRequest, user: User, workdir: str | None) -> Command:
    process = request.process
    if process is None or not process.cmd:
        raise ConnectError(Code.INVALID_ARGUMENT, "process.cmd is empty; name a program")
    strings = [process.cmd, *process.args, *process.envs.keys(), *process.envs.values()]
    if any("\0" in text for text in strings) or any(
        "=" in name or not name for name in process.envs
    ):
        raise ConnectError(
            Code.INVALID_ARGUMENT,
            "arguments and variables may not hold NUL, and a variable's name no '='",
        )
    try:
        cwd = resolve(process.cwd or "", user, None if process.cwd else workdir)
    except BadPath as error:
        raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error
    size = None
    if request.pty is not None:
        wanted = request.pty.size
        size = (wanted.cols, wanted.rows) if wanted is not None else _DEFAULT_SIZE
    return Command(
        cmd=process.cmd,
        args=tuple(process.args),
        envs=dict(process.envs),
        cwd=cwd,
        tag=request.tag or None,
        stdin=request.stdin if request.has_field("stdin") else True,
        terminal_size=size,
    )


def _not_started(error: OSError, command: Command) -> ConnectError:
    if error.filename == command.cwd:
        return ConnectError(Code.INVALID_ARGUMENT, f"cwd '{command.cwd}' does not exist")
    if isinstance(error, FileNotFoundError):
        return ConnectError(Code.INVALID_ARGUMENT, f"program '{command.cmd}' does not exist")
    return ConnectError(Code.INTERNAL, f"'{command.cmd}' could not be started: {error.strerror}")


def _info(process: Process) -> ProcessInfo:
    command = process.command
    config = ProcessConfig(cmd=command.cmd, args=list(command.args), envs=dict(command.envs))
    if process.requested_cwd is not None:
        config.cwd = process.requested_cwd
    info = ProcessInfo(config=config, pid=process.pid)
    if command.tag is not None:
        info.tag = command.tag
    return info


# --- events -----------------------------------------------------------------------------


def _deadline(ctx: _Context) -> float | None:
    """When the client's time-out is over, on the loop's clock."""
    left = ctx.timeout_ms
    return None if left is None else asyncio.get_running_loop().time() + left / 1000


async def _events(
    process: Process, queue: asyncio.Queue[Event], ctx: _Context, deadline: float | None
) -> AsyncIterator[ProcessEvent]:
    """Start, output as it comes, keepalives in silence, end. Raises TimeoutError."""
    yield ProcessEvent(event=Oneof(_START, ProcessEvent.StartEvent(pid=process.pid)))
    interval = keepalive_interval(ctx)
    while True:
        async with asyncio.timeout_at(deadline):
            event = await _next(queue, interval)
        yield _encode(event)
        if isinstance(event, Ended):
            return


async def _next(queue: asyncio.Queue[Event], interval: float) -> Event | None:
    with contextlib.suppress(asyncio.QueueEmpty):
        return queue.get_nowait()
    try:
        async with asyncio.timeout(interval):
            return await queue.get()
    except TimeoutError:
        return None


def keepalive_interval(ctx: _Context) -> float:
    try:
        return max(1.0, float(ctx.request_headers.get("keepalive-ping-interval") or ""))
    except ValueError:
        return DEFAULT_KEEPALIVE


def _encode(event: Event | None) -> ProcessEvent:
    match event:
        case Output("stdout", data):
            output = ProcessEvent.DataEvent(output=Oneof(_STDOUT, data))
        case Output("stderr", data):
            output = ProcessEvent.DataEvent(output=Oneof(_STDERR, data))
        case Output(_, data):
            output = ProcessEvent.DataEvent(output=Oneof(_PTY, data))
        case Ended():
            return ProcessEvent(event=Oneof(_END, _end(event)))
        case None:
            return ProcessEvent(event=Oneof(_KEEPALIVE, ProcessEvent.KeepAlive()))
    return ProcessEvent(event=Oneof(_DATA, output))


def _end(event: Ended) -> ProcessEvent.EndEvent:
    end = ProcessEvent.EndEvent(exit_code=event.exit_code, exited=event.exited, status=event.status)
    if event.exit_code:
        end.error = event.status
    return end


async def _write(process: Process, data: ProcessInput | None) -> None:
    with _refusals():
        match data.input if data is not None else None:
            case Oneof(field="stdin", value=content):
                await process.write(content, to_terminal=False)
            case Oneof(field="pty", value=content):
                await process.write(content, to_terminal=True)
            case _:
                raise WrongInput("the input is empty")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except WrongInput as error:
        raise ConnectError(Code.FAILED_PRECONDITION, str(error)) from error
    except TimeoutError as error:
        raise ConnectError(Code.DEADLINE_EXCEEDED, "the process does not read its input") from error
