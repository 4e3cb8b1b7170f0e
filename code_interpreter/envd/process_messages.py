"""Between the messages of ``process.Process`` and the types of `code_interpreter.envd.process`."""

from __future__ import annotations

import os
from typing import Any, Literal

from e2b.envd.process.process_pb import ProcessConfig, ProcessEvent, ProcessInfo, StartRequest
from protobuf import Oneof

from code_interpreter.envd.paths import resolve
from code_interpreter.envd.process import Command, Ended, Output, Process
from code_interpreter.guest.users import User
from code_interpreter.guest.variables import LONGEST_STRING, check_variables

DEFAULT_SIZE = (80, 24)
"""Columns and rows of a terminal whose size the client leaves open."""


class BadCommand(ValueError):
    """What is to be started cannot be; the message says why."""


def read_command(request: StartRequest, user: User, workdir: str | None) -> Command:
    """Raises `BadCommand`, `BadPath`, `BadVariables`."""
    process = request.process
    if process is None or not process.cmd:
        raise BadCommand("process.cmd is empty; name a program")
    for text in (process.cmd, *process.args):
        _check_argument(text)
    check_variables(process.envs)
    cwd = process.cwd or workdir or ""
    return Command(
        cmd=process.cmd,
        args=tuple(process.args),
        envs=dict(process.envs),
        cwd=resolve(cwd, user) if cwd else _home(user),
        requested_cwd=process.cwd or None,
        tag=request.tag or None,
        stdin=request.stdin if request.has_field("stdin") else True,
        terminal_size=_size(request),
    )


def _home(user: User) -> str:
    """Some accounts, such as ``nobody``, have none; login programs take / then."""
    home = resolve("", user)
    return home if os.path.isdir(home) else "/"


def _check_argument(text: str) -> None:
    if "\0" in text:
        raise BadCommand("a command and its arguments may not hold a NUL character")
    if (size := len(text.encode())) > LONGEST_STRING:
        raise BadCommand(
            f"a command or argument has at most {LONGEST_STRING} bytes, this one {size}, which is "
            "too long: write it to a file and run that, or send it as input"
        )


def _size(request: StartRequest) -> tuple[int, int] | None:
    if request.pty is None:
        return None
    size = request.pty.size
    return DEFAULT_SIZE if size is None else (size.cols, size.rows)


def process_info(process: Process) -> ProcessInfo:
    command = process.command
    config = ProcessConfig(cmd=command.cmd, args=list(command.args), envs=dict(command.envs))
    if command.requested_cwd is not None:
        config.cwd = command.requested_cwd
    info = ProcessInfo(config=config, pid=process.pid)
    if command.tag is not None:
        info.tag = command.tag
    return info


def start_message(process: Process) -> ProcessEvent:
    start: Oneof[Literal["start"], ProcessEvent.StartEvent]
    start = Oneof("start", ProcessEvent.StartEvent(pid=process.pid))
    return ProcessEvent(event=start)


def event_message(event: Output | Ended | None) -> ProcessEvent:
    """None is a keepalive."""
    match event:
        case Output():
            return ProcessEvent(event=_data(event))
        case Ended():
            return ProcessEvent(event=_end(event))
    keepalive: Oneof[Literal["keepalive"], ProcessEvent.KeepAlive]
    keepalive = Oneof("keepalive", ProcessEvent.KeepAlive())
    return ProcessEvent(event=keepalive)


def _data(event: Output) -> Oneof[Literal["data"], ProcessEvent.DataEvent]:
    output: Any = Oneof(event.stream, event.data)
    return Oneof("data", ProcessEvent.DataEvent(output=output))


def _end(event: Ended) -> Oneof[Literal["end"], ProcessEvent.EndEvent]:
    end = ProcessEvent.EndEvent(exit_code=event.exit_code, exited=event.exited, status=event.status)
    if event.exit_code:
        end.error = event.status
    return Oneof("end", end)
