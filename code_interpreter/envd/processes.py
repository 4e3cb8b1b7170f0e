"""The processes that clients started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from fcntl import ioctl

from code_interpreter.envd.process import Command, Process
from code_interpreter.envd.spawner import Wanted
from code_interpreter.envd.starter import Starter, Streams
from code_interpreter.guest.awake import AwakeClock
from code_interpreter.guest.users import User


class NoSuchProcess(LookupError):
    """The selector names no process of ours."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """Descriptors of a new process: its own three, and this side's of them."""

    theirs: Streams
    outputs: dict[str, int]
    input: int | None


class Processes:
    """All of them, and those that ended less than ``remembered_seconds`` ago. One a server."""

    def __init__(self, starter: Starter, remembered_seconds: float) -> None:
        self._starter = starter
        self._remembered_seconds = remembered_seconds
        self._by_pid: dict[int, Process] = {}
        self.clock = AwakeClock()
        """Of their time-outs."""

    def has_any(self) -> bool:
        return bool(self._by_pid)

    def running(self) -> list[Process]:
        return [process for process in self._by_pid.values() if process.ended is None]

    def find(self, *, pid: int | None = None, tag: str | None = None) -> Process:
        """Raises `NoSuchProcess`. Of several with one tag the newest."""
        if pid is not None:
            process = self._by_pid.get(pid)
            if process is None:
                raise NoSuchProcess(f"process with pid {pid} not found")
            return process
        for process in reversed(self._by_pid.values()):
            if process.command.tag == tag:
                return process
        raise NoSuchProcess(f"process with tag {tag} not found")

    async def start(self, command: Command, user: User, env: Mapping[str, str]) -> Process:
        """Start it; nothing of its output is read before the event loop's next turn.

        Raises OSError with the name of the program, or of the directory.
        """
        wanted = Wanted((command.cmd, *command.args), {**env, **command.envs}, command.cwd)
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ends = _open_ends(command, user, theirs, ours)
            if command.terminal_size is not None:
                child = self._starter.start_with_terminal(wanted, user, ends.theirs[0])
            else:
                child = await self._starter.start(wanted, user, ends.theirs)
            ours.pop_all()
        process = Process(child, command, ends.outputs, ends.input, self._forget_later)
        self._by_pid.pop(process.pid, None)  # the newest comes last
        self._by_pid[process.pid] = process
        return process

    def _forget_later(self, process: Process) -> None:
        asyncio.get_running_loop().call_later(self._remembered_seconds, self._forget, process)

    def _forget(self, process: Process) -> None:
        if process.has_writers:  # whom the end of envd would end, too
            self._forget_later(process)
        elif self._by_pid.get(process.pid) is process:
            del self._by_pid[process.pid]


def _open_ends(
    command: Command, user: User, theirs: contextlib.ExitStack, ours: contextlib.ExitStack
) -> _Ends:
    if command.terminal_size is not None:
        return _open_terminal(command.terminal_size, user, theirs, ours)
    outputs, writing = {}, []
    for name in ("stdout", "stderr"):
        read, write = _pipe(theirs, ours)
        outputs[name] = read
        writing.append(write)
    given = None
    if command.stdin:
        source, given = os.pipe2(os.O_CLOEXEC)
        ours.callback(os.close, given)
        os.set_blocking(given, False)
    else:
        source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    theirs.callback(os.close, source)
    return _Ends((source, writing[0], writing[1]), outputs, given)


def _pipe(theirs: contextlib.ExitStack, ours: contextlib.ExitStack) -> tuple[int, int]:
    read, write = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    os.set_blocking(read, False)
    return read, write


def _open_terminal(
    size: tuple[int, int], user: User, theirs: contextlib.ExitStack, ours: contextlib.ExitStack
) -> _Ends:
    master, slave = os.openpty()
    ours.callback(os.close, master)
    theirs.callback(os.close, slave)
    set_terminal_size(slave, *size)
    with contextlib.suppress(PermissionError):  # without isolation it is the user's already
        os.fchown(slave, user.uid, -1)
    os.set_blocking(master, False)
    return _Ends((slave, slave, slave), {"pty": master}, None)


def set_terminal_size(terminal: int, columns: int, rows: int) -> None:
    """See ioctl_tty(2); out of range numbers raise ValueError."""
    if not (0 <= columns < 1 << 16 and 0 <= rows < 1 << 16):
        raise ValueError(f"a terminal has at most 65535 columns and rows, not {columns}x{rows}")
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
