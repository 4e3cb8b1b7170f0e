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

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from code_interpreter.gateway.events import Events
from code_interpreter.gateway.kernel_end import KernelEnd, Usage
from code_interpreter.gateway.message import KernelMessage
from code_interpreter.protocol.executions import (
    Cause,
    ExecutionEvent,
    ExecutionStatus,
    KernelState,
    Receipt,
)

GRACE = 2.0
"""Seconds that a reply without ``idle``, or the other way round, is waited for."""
INTERRUPTS = (0.0, 1.0, 2.0)
"""Seconds after the wish to stop at which the cell is interrupted."""
KILL_AFTER = 4.0
"""Seconds after the wish to stop at which the kernel is killed."""
DEATH_GRACE = 5.0
"""Seconds after killing at which the cell ends even if the kernel is still there."""


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
        self._usage = Usage()
        self.events = Events(terms.execution_id)

    @property
    def ended(self) -> bool:
        return self.state in _STATUS

    @property
    def stopping(self) -> bool:
        return self._stop_cause is not None

    # --- the caller's side ----------------------------------------------------------------

    def accept(self, queue_position: int) -> list[Output]:
        """The first event."""
        terms = self.terms
        return [self.events.accepted(terms.context_id, terms.language, queue_position)]

    def moved(self, queue_position: int) -> list[Output]:
        """Fewer cells are before it now."""
        return list(self.events.moved(queue_position)) if self.state is State.QUEUED else []

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
        commands = self._note(message, now)
        return [*self.events.of_message(message), *commands, *self._settled(now)]

    def stop(self, cause: Cause, now: float) -> list[Output]:
        """Interrupt it, and kill its kernel if that does not help. Restart and removal of the
        context kill at once."""
        kills = cause in (Cause.RESTART, Cause.REMOVED)
        if self.ended or self._stop_cause is not None or (self._reply is not None and not kills):
            return []
        self._stop_cause = cause
        self._stopped_at = now
        if self.state is State.QUEUED:
            error = self.events.error(*_STOP_TEXTS[cause]) if kills else []
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
        error = self.events.error(
            "ContextRestarting" if end.out_of_memory is None else "MemoryLimitExceeded",
            f"The kernel {end.text()} while the cell ran. Its variables are gone; "
            "the next cell runs in a fresh kernel.",
        )
        return [*error, *self._end(Change.LOSE, KernelState.LOST, now, end.cause(), end)]

    def start_failed(self, reason: str, now: float) -> list[Output]:
        """There is no kernel to run it in."""
        if self.ended:
            return []
        error = self.events.error("KernelStartFailed", reason)
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
        error = self.events.error(name, text)
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
            outputs += self.events.error(
                str(reply.get("ename", "Error")),
                str(reply.get("evalue", "")),
                reply.get("traceback") or (),
            )
        elif status != "ok":
            outputs += self.events.error("ExecutionAborted", "The kernel did not run the cell.")
        if not self.events.error_seen:
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
        tails = self.events.tails()
        self._change(change)
        last = self.events.end(
            status=_STATUS[self.state],
            kernel_state=kernel_state,
            cause=cause or self._stop_cause,
            exit_code=end.exit_code if end is not None else None,
            signal=end.signal if end is not None else None,
            receipt=self._receipt(now),
        )
        return [*tails, last]

    def _receipt(self, now: float) -> Receipt:
        started = now if self._started_at is None else self._started_at
        return self.events.receipt(
            wall_seconds=max(0.0, now - started),
            cpu_seconds=self._usage.cpu_seconds,
            peak_memory_bytes=self._usage.peak_memory_bytes,
        )

    def _change(self, change: Change) -> None:
        state = TRANSITIONS.get((self.state, change))
        if state is None:
            raise WrongState(f"{change.name} in state {self.state.name}")
        self.state = state

    # --- messages -------------------------------------------------------------------------

    def _note(self, message: KernelMessage, now: float) -> list[Output]:
        """What the message means for the state of the cell."""
        if message.type == "execute_reply":
            self._reply = self._reply or message.content
        elif message.content.get("execution_state") == "idle":
            self._idle = True
        elif message.type in ("status", "execute_input"):
            self._busy = True
            if self._stop_cause is not None and not self._interrupts and self._killed_at is None:
                return self._interrupt_when_due(now)
        return []


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
