"""One process: what comes out of it goes to who listens, what is sent goes in.

Driven by the event loop's callbacks alone: a process has no task that could be lost.
A listener that does not keep up holds the process up, instead of filling memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial

from code_interpreter.envd.starter import Child
from code_interpreter.envd.streams import Inlet, InputRefused, Outlet
from code_interpreter.guest.awake import AwakeClock, AwakeTimer

KILLED_SECONDS = 0.5
"""After which a process that a client killed is over, whoever holds its outputs."""
UNKNOWN_END = "unknown: what started the process was killed before it could tell how it ended"
MOST_QUEUED = 16
"""Events that wait for a listener before the process has to wait for it."""
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
class Command:
    """What a client asked to run."""

    cmd: str
    args: tuple[str, ...]
    envs: Mapping[str, str]
    cwd: str
    requested_cwd: str | None = None
    """As the client wrote it."""
    tag: str | None = None
    stdin: bool = True
    """False: /dev/null."""
    terminal_size: tuple[int, int] | None = None
    """Columns and rows; None: pipes instead of a terminal."""


@dataclass(frozen=True, slots=True)
class Output:
    """``stream`` is stdout, stderr or pty."""

    stream: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """``exit_code`` is -1 for a process that a signal ended, or nobody knows what."""

    exit_code: int
    exited: bool
    status: str


class Stop(Enum):
    """Why a listener hears no more of a process that goes on."""

    GONE = "the client has gone"
    EXPIRED = "the time-out has passed"


Event = Output | Ended | Stop


class Listener:
    """Hears a process from the moment it was made: outputs, then one `Ended` or `Stop`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return len(self._events) >= MOST_QUEUED

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._arrived.set()

    async def next(self, idle: float) -> Event | None:
        """The next event, or None after ``idle`` seconds without one."""
        if not self._events:
            self._arrived.clear()
            try:
                async with asyncio.timeout(idle):
                    await self._arrived.wait()
            except TimeoutError:
                return None
        event = self._events.popleft()
        self._process.listener_took_one()
        return event

    def stop(self, reason: Stop) -> None:
        """Hear nothing more but the reason."""
        self._events.clear()
        self.put(reason)
        self.leave()

    def leave(self) -> None:
        self._process.forget_listener(self)


class Process:
    """A running process, or one that ended a moment ago."""

    def __init__(
        self,
        child: Child,
        command: Command,
        outputs: Mapping[str, int],
        given: int | None,
        on_end: Callable[[Process], None],
    ) -> None:
        """Takes over the descriptors. ``outputs`` is the terminal's alone if there is one."""
        self.pid = child.pid
        self.command = command
        self.ended: Ended | None = None
        self._on_end = on_end
        self._listeners: set[Listener] = set()
        self._has_exited = False
        self._was_killed = False
        self._deadline: AwakeTimer | None = None
        self._end_when_closed: Callable[[], None] | None = None
        self._terminal = outputs.get("pty")
        self._outlets = [
            Outlet(name, descriptor, self._publish, self._outlet_closed)
            for name, descriptor in outputs.items()
        ]
        target = given if self._terminal is None else os.dup(self._terminal)
        self._inlet = None if target is None else Inlet(target)
        child.on_exit(self._exited)

    # --- listeners ------------------------------------------------------------------------

    def listen(self) -> Listener:
        listener = Listener(self)
        if self.ended is None:
            self._listeners.add(listener)
        else:
            listener.put(self.ended)
        return listener

    def forget_listener(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        self.listener_took_one()

    def listener_took_one(self) -> None:
        if not any(listener.is_full for listener in self._listeners):
            for outlet in self._outlets:
                outlet.resume()

    def _publish(self, stream: str, data: bytes) -> None:
        output = Output(stream, data)
        for listener in self._listeners:
            listener.put(output)
        if any(listener.is_full for listener in self._listeners):
            for outlet in self._outlets:
                outlet.pause()

    # --- the end --------------------------------------------------------------------------

    @property
    def has_writers(self) -> bool:
        """Somebody holds its outputs, maybe after its end: they must be read on."""
        return bool(self._outlets)

    def _exited(self, status: int | None) -> None:
        self._has_exited = True
        if status is None and self._was_killed:
            status = signal.SIGKILL
        end = partial(self._end, describe_end(status))
        self._end_when_closed = end
        if not self._outlets:
            end()
        elif self._was_killed:  # with what it started still running, maybe
            asyncio.get_running_loop().call_later(KILLED_SECONDS, end)

    def _outlet_closed(self, outlet: Outlet) -> None:
        self._outlets.remove(outlet)
        self._terminal = None
        if self._end_when_closed is not None and not self._outlets:
            self._end_when_closed()

    def _end(self, ended: Ended) -> None:
        """It has exited, and nobody holds its outputs any more, or it was killed."""
        if self.ended is not None:
            return
        self.ended = ended
        if self._deadline is not None:
            self._deadline.cancel()
        if self._inlet is not None:
            self._inlet.close()
        for listener in self._listeners:
            listener.put(self.ended)
        self._listeners.clear()
        self.listener_took_one()  # none holds up who still writes
        self._on_end(self)

    # --- what clients do to it ------------------------------------------------------------

    def signal(self, number: signal.Signals) -> bool:
        """To the process alone, not to what it started. False if it has exited already."""
        if self._has_exited:
            return False
        self._was_killed = self._was_killed or number is signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return True

    def kill_after(self, seconds: float, clock: AwakeClock) -> None:
        """If it still runs then."""
        self._deadline = clock.call_at(clock.time() + seconds, lambda: self.signal(signal.SIGKILL))

    def terminal(self) -> int:
        """The descriptor. Raises `InputRefused`."""
        if self._terminal is None:
            raise InputRefused(f"process {self.pid} has no terminal")
        return self._terminal

    async def write(self, data: bytes, *, to_terminal: bool) -> None:
        """Raises `InputRefused`; TimeoutError when the process does not read."""
        if to_terminal:
            self.terminal()
        elif self.command.terminal_size is not None:
            raise InputRefused(f"process {self.pid} has a terminal; send pty input, not stdin")
        if self._inlet is None:
            raise InputRefused(f"process {self.pid} was started without stdin")
        await self._inlet.write(data)

    def close_stdin(self) -> None:
        """Once more is once. Raises `InputRefused`."""
        if self.command.terminal_size is not None:
            raise InputRefused("a terminal's stdin cannot be closed; send Ctrl-D (0x04) instead")
        if self._inlet is not None:
            self._inlet.close()


def describe_end(status: int | None) -> Ended:
    """From a wait(2) status, in the words of Go's ``os.ProcessState``; None: nobody knows it."""
    if status is None:
        return Ended(-1, False, UNKNOWN_END)
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, True, f"exit status {code}")
    number = os.WTERMSIG(status)
    core = " (core dumped)" if os.WCOREDUMP(status) else ""
    return Ended(-1, False, f"signal: {_NAMES.get(number, f'signal {number}')}{core}")


_NAMES = {int(number): name for number, name in _STATUS.items()}
