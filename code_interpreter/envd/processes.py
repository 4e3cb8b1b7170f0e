"""The processes that clients started, with who listens to them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import User

PIPE_CHUNK = 32 * 1024
TERMINAL_CHUNK = 16 * 1024
QUEUED_EVENTS = 16
"""A listener that reads slowly holds the process up, instead of filling memory."""
REMEMBERED_SECONDS = 30.0
"""How long a finished process can still be connected to."""
WRITE_DEADLINE = 60.0
"""Seconds that a process has to take what is written to it."""
_STATUS = {
    signal.SIGABRT: "aborted",
    signal.SIGALRM: "alarm clock",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGHUP: "hangup",
    signal.SIGILL: "illegal instruction",
    signal.SIGINT: "interrupt",
    signal.SIGKILL: "killed",
    signal.SIGPIPE: "broken pipe",
    signal.SIGQUIT: "quit",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGTERM: "terminated",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGUSR2: "user defined signal 2",
}


@dataclass(frozen=True, slots=True)
class Output:
    """``stream`` is stdout, stderr or pty."""

    stream: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """``exit_code`` is -1 for a process that a signal ended."""

    exit_code: int
    exited: bool
    status: str


Event = Output | Ended


@dataclass(frozen=True, slots=True)
class Command:
    """What a client asked to run."""

    cmd: str
    args: tuple[str, ...]
    envs: Mapping[str, str]
    cwd: str
    tag: str | None = None
    stdin: bool = True
    terminal_size: tuple[int, int] | None = None
    """Columns and rows; None: pipes instead of a terminal."""


class NoSuchProcess(LookupError):
    """The selector names no process of ours."""


class WrongInput(ValueError):
    """Terminal input for pipes, or the other way round, or stdin is closed."""


@dataclass(slots=True, eq=False)
class Process:
    """A running process, or one that ended less than `REMEMBERED_SECONDS` ago."""

    pid: int
    command: Command
    requested_cwd: str | None
    stdin: int | None
    terminal: int | None
    listeners: set[asyncio.Queue[Event]] = field(default_factory=set)
    ended: Ended | None = None
    task: asyncio.Task[None] | None = None

    async def listen(self) -> AsyncIterator[Event]:
        """Events from now on; the last one is `Ended`. Also after the end."""
        queue = self.subscribe()
        try:
            while True:
                event = await queue.get()
                yield event
                if isinstance(event, Ended):
                    return
        finally:
            self.unsubscribe(queue)

    def subscribe(self) -> asyncio.Queue[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue(QUEUED_EVENTS)
        if self.ended is not None:
            queue.put_nowait(self.ended)
        else:
            self.listeners.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Event]) -> None:
        self.listeners.discard(queue)
        while not queue.empty():  # lets a waiting publisher go on
            queue.get_nowait()

    async def publish(self, event: Event) -> None:
        for queue in list(self.listeners):
            while queue in self.listeners:
                try:
                    async with asyncio.timeout(1):
                        await queue.put(event)
                    break
                except TimeoutError:
                    continue

    def signal(self, number: int) -> None:
        if self.ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def resize(self, columns: int, rows: int) -> None:
        if self.terminal is None:
            raise WrongInput(f"process {self.pid} has no terminal to resize")
        set_size(self.terminal, columns, rows)

    async def write(self, data: bytes, *, to_terminal: bool) -> None:
        """Raises `WrongInput`; TimeoutError when the process does not read."""
        target = self.terminal if to_terminal else self.stdin
        if target is None:
            wanted = "a terminal" if to_terminal else "an open stdin"
            raise WrongInput(f"process {self.pid} has not {wanted}")
        async with asyncio.timeout(WRITE_DEADLINE):
            await _write_all(target, data)

    def close_stdin(self) -> None:
        if self.terminal is not None:
            raise WrongInput("a terminal's stdin cannot be closed; send Ctrl-D (0x04) instead")
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None


class Processes:
    """All of them. One a server; its owner awaits nothing but `start`."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._by_pid: dict[int, Process] = {}

    def all(self) -> list[Process]:
        return [process for process in self._by_pid.values() if process.ended is None]

    def find(self, *, pid: int | None = None, tag: str | None = None) -> Process:
        """Raises `NoSuchProcess`. Of several with one tag the newest."""
        if pid is not None:
            process = self._by_pid.get(pid)
            if process is None:
                raise NoSuchProcess(f"process with pid {pid} not found")
            return process
        for process in reversed(self._by_pid.values()):
            if tag is not None and process.command.tag == tag:
                return process
        raise NoSuchProcess(f"process with tag {tag} not found")

    def start(
        self, command: Command, user: User, env: Mapping[str, str], requested_cwd: str | None
    ) -> tuple[Process, asyncio.Queue[Event]]:
        """Start it, and listen from its first byte on. Raises OSError."""
        if command.terminal_size is not None:
            process, outputs = self._start_with_terminal(command, user, env, requested_cwd)
        else:
            process, outputs = self._start_with_pipes(command, user, env, requested_cwd)
        self._by_pid.pop(process.pid, None)
        self._by_pid[process.pid] = process
        queue = process.subscribe()
        process.task = asyncio.create_task(self._follow(process, outputs))
        return process, queue

    def _start_with_terminal(
        self, command: Command, user: User, env: Mapping[str, str], requested_cwd: str | None
    ) -> tuple[Process, dict[str, int]]:
        assert command.terminal_size is not None
        master, slave = os.openpty()
        try:
            set_size(slave, *command.terminal_size)
            with contextlib.suppress(OSError):
                os.fchown(slave, user.uid, -1)
            pid = self._launch(command, user, env, (slave, slave, slave), terminal=True)
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        os.set_blocking(master, False)
        return Process(pid, command, requested_cwd, None, master), {"pty": master}

    def _start_with_pipes(
        self, command: Command, user: User, env: Mapping[str, str], requested_cwd: str | None
    ) -> tuple[Process, dict[str, int]]:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ends = {}
            for name in ("stdout", "stderr"):
                read, write = os.pipe2(os.O_CLOEXEC)
                theirs.callback(os.close, write)
                ours.callback(os.close, read)
                os.set_blocking(read, False)
                ends[name] = (read, write)
            stdin: int | None = None
            if command.stdin:
                source, stdin = os.pipe2(os.O_CLOEXEC)
                ours.callback(os.close, stdin)
                os.set_blocking(stdin, False)
            else:
                source = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            theirs.callback(os.close, source)
            streams = (source, ends["stdout"][1], ends["stderr"][1])
            pid = self._launch(command, user, env, streams, terminal=False)
            ours.pop_all()
        outputs = {name: read for name, (read, _) in ends.items()}
        return Process(pid, command, requested_cwd, stdin, None), outputs

    def _launch(
        self,
        command: Command,
        user: User,
        env: Mapping[str, str],
        streams: tuple[int, int, int],
        *,
        terminal: bool,
    ) -> int:
        return self._launcher.start(
            (command.cmd, *command.args),
            user=user,
            env={**env, **command.envs},
            cwd=command.cwd,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            terminal=terminal,
        )

    async def _follow(self, process: Process, outputs: dict[str, int]) -> None:
        """To the end of its outputs and of itself; the task of the process."""
        chunk = PIPE_CHUNK if process.terminal is None else TERMINAL_CHUNK
        try:
            async with asyncio.TaskGroup() as pumps:
                for stream, descriptor in outputs.items():
                    pumps.create_task(_pump(process, stream, descriptor, chunk))
                status = await _reap(process.pid)
        finally:
            self._close(process, outputs)
        ended = describe_end(status)
        process.ended = ended  # first: who subscribes from now on is told at once
        await process.publish(ended)
        process.listeners.clear()
        asyncio.get_running_loop().call_later(REMEMBERED_SECONDS, self._forget, process)

    def _close(self, process: Process, outputs: dict[str, int]) -> None:
        for descriptor in outputs.values():
            os.close(descriptor)
        if process.stdin is not None:
            os.close(process.stdin)
        process.stdin = process.terminal = None

    def _forget(self, process: Process) -> None:
        if self._by_pid.get(process.pid) is process:
            del self._by_pid[process.pid]


def describe_end(status: int) -> Ended:
    """From a wait(2) status, in the words of Go's ``os.ProcessState``."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return Ended(code, True, f"exit status {code}")
    name = _STATUS.get(signal.Signals(-code)) if -code in set(signal.Signals) else None
    return Ended(-1, False, f"signal: {name or f'signal {-code}'}")


def set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def _pump(process: Process, stream: str, descriptor: int, chunk: int) -> None:
    while True:
        try:
            data = os.read(descriptor, chunk)
        except BlockingIOError:
            await _ready(descriptor, write=False)
            continue
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal whose last process is gone
                return
            raise
        if not data:
            return
        await process.publish(Output(stream, data))
        await asyncio.sleep(0)


async def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            await _ready(descriptor, write=True)
        except BrokenPipeError as error:
            raise WrongInput("the process has closed its stdin") from error


async def _ready(descriptor: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    )

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    add(descriptor, on_ready)
    try:
        await ready
    finally:
        remove(descriptor)


async def _reap(pid: int) -> int:
    """The wait status of a child of ours."""
    descriptor = os.pidfd_open(pid)
    try:
        await _ready(descriptor, write=False)
    finally:
        os.close(descriptor)
    return os.waitpid(pid, 0)[1]
