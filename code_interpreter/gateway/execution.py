"""What becomes of one cell. No I/O: messages and facts in, events and commands out.

The rules of this file:

* An `Execution` is in one `State`. All changes stand in `TRANSITIONS`; nothing else assigns
  the state. DONE, ERROR, INTERRUPTED and LOST are final, and `EndOfExecution` is emitted on
  the way into one of them, so exactly once.
* The caller brings Jupyter messages that belong to the cell (`receive`), facts about the
  kernel (`kernel_ended`), wishes (`stop`) and the passing of time (`tick`, not later than
  `deadline`). Each returns what to do, in order: events for clients, and commands.
* A cell has ended when both its reply and its ``idle`` are there. When one of them is missing
  it is waited for `GRACE` seconds, no longer.
* To stop a cell is to interrupt it at `INTERRUPTS` seconds and to kill its kernel after
  `KILL_AFTER`. Only a cell that has begun is interrupted: an earlier signal would be lost.
* The first reason to stop is the one that is told.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from code_interpreter.gateway import bundle
from code_interpreter.gateway.message import KernelMessage
from code_interpreter.gateway.output import BoundedStream
from code_interpreter.protocol.executions import (
    Accepted,
    Cause,
    ClearOutput,
    DisplayUpdate,
    EndOfExecution,
    ErrorEvent,
    ExecutionEvent,
    ExecutionStatus,
    InputRequest,
    KernelState,
    NumberOfExecutions,
    Receipt,
    ResultEvent,
    Stderr,
    Stdout,
)

GRACE = 2.0
"""Seconds that a reply without ``idle``, or the other way round, is waited for."""
INTERRUPTS = (0.0, 1.0, 2.0)
"""Seconds after the wish to stop at which the cell is interrupted."""
KILL_AFTER = 4.0
"""Seconds after the wish to stop at which the kernel is killed."""
DEATH_GRACE = 5.0
"""Seconds after killing at which the cell ends even if the kernel is still there."""
MAX_RESULT_BYTES = 48 << 20
MAX_RESULTS_BYTES = 256 << 20


class State(Enum):
    QUEUED = auto()
    RUNNING = auto()
    DONE = auto()
    ERROR = auto()
    INTERRUPTED = auto()
    LOST = auto()


class Change(Enum):
    START = auto()
    SUCCEED = auto()
    FAIL = auto()
    INTERRUPT = auto()
    LOSE = auto()


TRANSITIONS: dict[tuple[State, Change], State] = {
    (State.QUEUED, Change.START): State.RUNNING,
    (State.QUEUED, Change.FAIL): State.ERROR,
    (State.QUEUED, Change.INTERRUPT): State.INTERRUPTED,
    (State.QUEUED, Change.LOSE): State.LOST,
    (State.RUNNING, Change.SUCCEED): State.DONE,
    (State.RUNNING, Change.FAIL): State.ERROR,
    (State.RUNNING, Change.INTERRUPT): State.INTERRUPTED,
    (State.RUNNING, Change.LOSE): State.LOST,
}
_STATUS = {
    State.DONE: ExecutionStatus.OK,
    State.ERROR: ExecutionStatus.ERROR,
    State.INTERRUPTED: ExecutionStatus.INTERRUPTED,
    State.LOST: ExecutionStatus.LOST,
}


class WrongState(Exception):
    """The caller asked for a change that the state does not allow."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Command: interrupt the kernel."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Command: kill the kernel; `Execution.kernel_ended` is expected then."""


Output = ExecutionEvent | Interrupt | Kill


@dataclass(frozen=True, slots=True)
class KernelEnd:
    """How a kernel's process ended."""

    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False

    def cause(self) -> Cause:
        if self.out_of_memory:
            return Cause.OOM
        return Cause.SIGNAL if self.signal is not None else Cause.EXIT

    def text(self) -> str:
        if self.out_of_memory:
            return "ran out of memory and was killed"
        if self.signal is not None:
            return f"was ended by signal {self.signal}"
        return f"exited with code {self.exit_code}"


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """How one execution is to be run."""

    execution_id: str
    context_id: str
    language: str
    timeout: float | None = None
    interruptible: bool = True
    """False: the kernel knows no interrupt, so stopping means killing it."""
    settle: float = 0.0
    """Seconds that output may come after reply and ``idle``."""


class Execution:
    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.state = State.QUEUED
        self._seq = 0
        self._started_at: float | None = None
        self._timeout_at: float | None = None
        self._busy = False
        self._reply: dict[str, Any] | None = None
        self._idle = False
        self._end_at: float | None = None
        self._stop_cause: Cause | None = None
        self._stopped_at = 0.0
        self._interrupts = 0
        self._killed_at: float | None = None
        self._counted = False
        self._error_seen = False
        self._usage = Usage()
        self._streams = {"stdout": BoundedStream(), "stderr": BoundedStream()}
        self._result_bytes = 0
        self._omitted_results = 0
        self._last_date = ""
        self.paths: dict[str, str | None] = {"stdout": None, "stderr": None}
        """Where all of a stream is kept, once a part of it was left out."""

    @property
    def ended(self) -> bool:
        return self.state in _STATUS

    @property
    def stopping(self) -> bool:
        return self._stop_cause is not None

    # --- the caller's side ----------------------------------------------------------------

    def accept(self, queue_position: int) -> list[Output]:
        """The first event."""
        return [
            Accepted(
                **self._next(),
                context_id=self.terms.context_id,
                language=self.terms.language,
                queue_position=queue_position,
            )
        ]

    def start(self, now: float) -> None:
        """The request goes to the kernel."""
        self._change(Change.START)
        self._started_at = now
        if self.terms.timeout is not None:
            self._timeout_at = now + self.terms.timeout

    def note_usage(self, usage: Usage) -> None:
        """What the cell has cost so far, for the receipt."""
        self._usage = usage

    def receive(self, message: KernelMessage, now: float) -> list[Output]:
        """A message of this cell, or late output that is delivered with it."""
        if self.state is not State.RUNNING:
            return []
        handler = _HANDLERS.get(message.type)
        if handler is None:
            return []
        return [*handler(self, message, now), *self._settled(now)]

    def stop(self, cause: Cause, now: float) -> list[Output]:
        """Interrupt it, and kill its kernel if that does not help. Restart and removal of the
        context kill at once."""
        kills = cause in (Cause.RESTART, Cause.REMOVED)
        if self.ended or self._stop_cause is not None or (self._reply is not None and not kills):
            return []
        self._stop_cause = cause
        self._stopped_at = now
        if self.state is State.QUEUED:
            error = self._error_once(*_STOP_TEXTS[cause]) if kills else []
            return [*error, *self._end(Change.INTERRUPT, KernelState.PRESERVED, now)]
        if kills or not self.terms.interruptible:
            return self._kill(now)
        return self._interrupt_when_due(now)

    def kernel_ended(self, end: KernelEnd, now: float) -> list[Output]:
        """The kernel's process is gone; no message of it will follow."""
        if self.ended:
            return []
        if self._stop_cause is not None:
            return self._stopped_by_death(end, now)
        if self._reply is not None:
            return self._finish(now, KernelState.LOST, end)
        error = self._error_once(
            "ContextRestarting",
            f"The kernel {end.text()} while the cell ran. Its variables are gone; "
            "the next cell runs in a fresh kernel.",
        )
        return [*error, *self._end(Change.LOSE, KernelState.LOST, now, end.cause(), end)]

    def start_failed(self, reason: str, now: float) -> list[Output]:
        """There is no kernel to run it in."""
        if self.ended:
            return []
        error = self._error_once("KernelStartFailed", reason)
        return [*error, *self._end(Change.LOSE, KernelState.LOST, now, Cause.START_FAILED)]

    def deadline(self) -> float | None:
        """When `tick` is due next."""
        if self.state is not State.RUNNING:
            return None
        may_time_out = self._stop_cause is None and self._reply is None
        times = [self._timeout_at if may_time_out else None, self._end_at]
        if self._killed_at is not None:
            times.append(self._killed_at + DEATH_GRACE)
        elif self._stop_cause is not None:
            times.append(self._next_stop_time())
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> list[Output]:
        if self.state is not State.RUNNING:
            return []
        if self._end_at is not None and now >= self._end_at:
            return self._finish(now)
        if self._stop_cause is None:
            if self._timeout_at is not None and now >= self._timeout_at:
                return self.stop(Cause.TIMEOUT, now)
            return []
        if self._killed_at is not None:
            if now >= self._killed_at + DEATH_GRACE:
                return self._stopped_by_death(KernelEnd(), now)
            return []
        if now >= self._stopped_at + KILL_AFTER:
            return self._kill(now)
        return self._interrupt_when_due(now)

    @property
    def omitted_bytes(self) -> dict[str, int]:
        """Of each stream, what was not sent."""
        return {name: stream.omitted_bytes for name, stream in self._streams.items()}

    def close_streams(self) -> None:
        """Send no more output inline; it is still counted. For want of room to keep events."""
        for stream in self._streams.values():
            stream.close()
        self._result_bytes = MAX_RESULTS_BYTES

    # --- stopping -------------------------------------------------------------------------

    def _next_stop_time(self) -> float:
        if self._interrupts < len(INTERRUPTS):
            index = self._interrupts if self._busy else max(1, self._interrupts)
            return self._stopped_at + INTERRUPTS[index]
        return self._stopped_at + KILL_AFTER

    def _interrupt_when_due(self, now: float) -> list[Output]:
        if self._interrupts >= len(INTERRUPTS) or now < self._next_stop_time():
            return []
        self._interrupts += 1 if self._busy else max(1, 2 - self._interrupts)
        return [Interrupt()]

    def _kill(self, now: float) -> list[Output]:
        self._killed_at = now
        return [Kill()]

    def _stopped_by_death(self, end: KernelEnd, now: float) -> list[Output]:
        cause = self._stop_cause
        assert cause is not None
        name, text = _STOP_TEXTS[cause]
        error = self._error_once(name, text)
        return [*error, *self._end(Change.INTERRUPT, KernelState.RESET, now, cause, end)]

    # --- ending ---------------------------------------------------------------------------

    def _settled(self, now: float) -> list[Output]:
        """End the cell now, or set the time at which it ends whatever is missing."""
        if self.state is not State.RUNNING:
            return []
        if self._reply is not None and self._idle:
            if not self.terms.settle:
                return self._finish(now)
            self._end_at = now + self.terms.settle
        elif (self._reply is not None or self._idle) and self._end_at is None:
            self._end_at = now + GRACE
        return []

    def _finish(
        self,
        now: float,
        kernel_state: KernelState = KernelState.PRESERVED,
        end: KernelEnd | None = None,
    ) -> list[Output]:
        outputs: list[Output] = []
        reply = self._reply or {}
        status = reply.get("status", "ok")
        if status == "error":
            outputs += self._error_once(
                str(reply.get("ename", "Error")),
                str(reply.get("evalue", "")),
                reply.get("traceback") or (),
            )
        elif status != "ok":
            outputs += self._error_once("ExecutionAborted", "The kernel did not run the cell.")
        if not self._error_seen:
            change = Change.SUCCEED
        else:
            change = Change.FAIL if self._stop_cause is None else Change.INTERRUPT
        cause = self._stop_cause or (end.cause() if end is not None else None)
        return [*outputs, *self._end(change, kernel_state, now, cause, end)]

    def _end(
        self,
        change: Change,
        kernel_state: KernelState,
        now: float,
        cause: Cause | None = None,
        end: KernelEnd | None = None,
    ) -> list[Output]:
        outputs: list[Output] = []
        for name, stream in self._streams.items():
            for text in stream.end(self.paths[name]):
                outputs.append(self._stream_event(name, text, ""))
        self._change(change)
        outputs.append(
            EndOfExecution(
                **self._next(),
                status=_STATUS[self.state],
                kernel_state=kernel_state,
                cause=cause or self._stop_cause,
                exit_code=end.exit_code if end is not None else None,
                signal=end.signal if end is not None else None,
                receipt=self._receipt(now),
            )
        )
        return outputs

    def _receipt(self, now: float) -> Receipt:
        started = now if self._started_at is None else self._started_at
        return Receipt(
            wall_seconds=max(0.0, now - started),
            cpu_seconds=self._usage.cpu_seconds,
            peak_memory_bytes=self._usage.peak_memory_bytes,
            stdout=self._streams["stdout"].receipt(self.paths["stdout"]),
            stderr=self._streams["stderr"].receipt(self.paths["stderr"]),
            omitted_results=self._omitted_results,
        )

    def _change(self, change: Change) -> None:
        state = TRANSITIONS.get((self.state, change))
        if state is None:
            raise WrongState(f"{change.name} in state {self.state.name}")
        self.state = state

    # --- messages -------------------------------------------------------------------------

    def _on_status(self, message: KernelMessage, now: float) -> list[Output]:
        if message.content.get("execution_state") == "idle":
            self._idle = True
            return []
        self._busy = True
        if self._stop_cause is not None and not self._interrupts and self._killed_at is None:
            return self._interrupt_when_due(now)
        return []

    def _on_input(self, message: KernelMessage, now: float) -> list[Output]:
        return [*self._on_status(message, now), *self._count(message.content)]

    def _on_reply(self, message: KernelMessage, now: float) -> list[Output]:
        if self._reply is not None:
            return []
        self._reply = message.content
        return self._count(message.content)

    def _count(self, content: dict[str, Any]) -> list[Output]:
        number = content.get("execution_count")
        if self._counted or not isinstance(number, int):
            return []
        self._counted = True
        return [NumberOfExecutions(**self._next(), execution_count=number)]

    def _on_stream(self, message: KernelMessage, now: float) -> list[Output]:
        name = "stderr" if message.content.get("name") == "stderr" else "stdout"
        pieces = self._streams[name].take(str(message.content.get("text", "")))
        return [self._stream_event(name, piece, message.date) for piece in pieces]

    def _stream_event(self, name: str, text: str, date: str) -> ExecutionEvent:
        kind = Stdout if name == "stdout" else Stderr
        self._last_date = date or self._last_date
        return kind(**self._next(), text=text, timestamp=self._last_date)

    def _on_result(self, message: KernelMessage, now: float) -> list[Output]:
        data = message.content.get("data") or {}
        if not self._fits(message.size):
            return []
        return [
            ResultEvent(
                **self._next(),
                is_main_result=message.type == "execute_result",
                display_id=_display_id(message),
                bundle=bundle.from_mime(data),
            )
        ]

    def _on_update(self, message: KernelMessage, now: float) -> list[Output]:
        display_id = _display_id(message)
        data = message.content.get("data") or {}
        if display_id is None or not self._fits(message.size):
            return []
        made = bundle.from_mime(data)
        return [DisplayUpdate(**self._next(), display_id=display_id, bundle=made)]

    def _fits(self, size: int) -> bool:
        if size > MAX_RESULT_BYTES or self._result_bytes + size > MAX_RESULTS_BYTES:
            self._omitted_results += 1
            return False
        self._result_bytes += size
        return True

    def _on_clear(self, message: KernelMessage, now: float) -> list[Output]:
        return [ClearOutput(**self._next(), wait=bool(message.content.get("wait")))]

    def _on_error(self, message: KernelMessage, now: float) -> list[Output]:
        content = message.content
        name, value = str(content.get("ename", "Error")), str(content.get("evalue", ""))
        lines = content.get("traceback") or ()
        if self._error_seen:
            text = plain_traceback(lines) or f"{name}: {value}"
            return [self._stream_event("stderr", text + "\n", message.date)]
        return self._error_once(name, value, lines)

    def _on_input_request(self, message: KernelMessage, now: float) -> list[Output]:
        content = message.content
        return [
            InputRequest(
                **self._next(),
                prompt=str(content.get("prompt", "")),
                password=bool(content.get("password")),
            )
        ]

    def _error_once(self, name: str, value: str, lines: Iterable[str] = ()) -> list[Output]:
        """An execution has one error at most: the first."""
        if self._error_seen:
            return []
        self._error_seen = True
        raw = "\n".join(lines)
        plain = plain_traceback(lines)
        return [
            ErrorEvent(
                **self._next(),
                name=name,
                value=without_ansi(value),
                traceback=plain or f"{name}: {without_ansi(value)}",
                traceback_ansi=raw if raw != plain else None,
            )
        ]

    def _next(self) -> dict[str, Any]:
        self._seq += 1
        return {"execution_id": self.terms.execution_id, "seq": self._seq}


_HANDLERS = {
    "status": Execution._on_status,
    "execute_input": Execution._on_input,
    "execute_reply": Execution._on_reply,
    "stream": Execution._on_stream,
    "execute_result": Execution._on_result,
    "display_data": Execution._on_result,
    "update_display_data": Execution._on_update,
    "clear_output": Execution._on_clear,
    "error": Execution._on_error,
    "input_request": Execution._on_input_request,
}
_STOP_TEXTS = {
    Cause.TIMEOUT: (
        "ExecutionTimeout",
        "The cell ran longer than its time-out and did not react to an interrupt, so its kernel "
        "was ended. Its variables are gone; the next cell runs in a fresh kernel.",
    ),
    Cause.CANCEL: (
        "ExecutionCancelled",
        "The cell was cancelled and did not react to an interrupt, so its kernel was ended. "
        "Its variables are gone; the next cell runs in a fresh kernel.",
    ),
    Cause.DISCONNECT: (
        "ExecutionCancelled",
        "The client went away and the cell did not react to an interrupt, so its kernel was "
        "ended. Its variables are gone; the next cell runs in a fresh kernel.",
    ),
    Cause.RESTART: ("ContextRestarting", "The context was restarted before the cell had ended."),
    Cause.REMOVED: ("ExecutionAborted", "The context was removed before the cell had ended."),
}
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


def without_ansi(text: str) -> str:
    return _ANSI.sub("", text) if "\x1b" in text else text


def plain_traceback(lines: Iterable[str]) -> str:
    return without_ansi("\n".join(lines))


def _display_id(message: KernelMessage) -> str | None:
    transient = message.content.get("transient")
    value = transient.get("display_id") if isinstance(transient, dict) else None
    return str(value) if value is not None else None
