"""The rules of `gateway.execution`, in every order of messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_interpreter.gateway.execution import (
    DEATH_GRACE,
    GRACE,
    INTERRUPTS,
    KILL_AFTER,
    Execution,
    Interrupt,
    Kill,
    Output,
    State,
    Terms,
    WrongState,
)
from code_interpreter.gateway.kernel_end import KernelEnd, OutOfMemory
from code_interpreter.gateway.message import KernelMessage
from code_interpreter.protocol.executions import (
    Cause,
    EndOfExecution,
    ErrorEvent,
    ExecutionStatus,
    KernelState,
    NumberOfExecutions,
    ResultEvent,
    Stdout,
)


def message(kind: str, **content: Any) -> KernelMessage:
    return KernelMessage(kind, "m", content, date="2026-01-01T00:00:00+00:00")


BUSY = message("status", execution_state="busy")
IDLE = message("status", execution_state="idle")
INPUT = message("execute_input", code="1", execution_count=3)
OK = message("execute_reply", status="ok", execution_count=3)
BAD = message("execute_reply", status="error", ename="E", evalue="v", traceback=["t"])
ABORTED = message("execute_reply", status="aborted")
PRINT = message("stream", name="stdout", text="x\n")
RESULT = message("execute_result", data={"text/plain": "1"}, execution_count=3)
FAILURE = message("error", ename="KeyboardInterrupt", evalue="", traceback=["KeyboardInterrupt"])


def running(**terms: Any) -> Execution:
    execution = Execution(Terms("e", "c", "python", **terms))
    execution.accept(0)
    execution.start(0.0)
    return execution


def end_of(outputs: list[Output]) -> EndOfExecution:
    (end,) = [output for output in outputs if isinstance(output, EndOfExecution)]
    return end


def test_a_cell_with_a_result() -> None:
    execution = running()
    outputs = [
        output
        for number, each in enumerate([BUSY, INPUT, PRINT, RESULT, OK, IDLE])
        for output in execution.receive(each, number / 10)
    ]
    assert [type(output) for output in outputs] == [
        NumberOfExecutions,
        Stdout,
        ResultEvent,
        EndOfExecution,
    ]
    end = end_of(outputs)
    assert end.status is ExecutionStatus.OK
    assert end.kernel_state is KernelState.PRESERVED
    assert end.receipt.wall_seconds == pytest.approx(0.5)
    assert end.receipt.stdout.total_bytes == 2


def test_idle_before_the_reply_waits_for_it() -> None:
    execution = running()
    execution.receive(IDLE, 1.0)
    assert execution.deadline() == 1.0 + GRACE
    assert end_of(execution.receive(BAD, 1.1)).status is ExecutionStatus.ERROR


@pytest.mark.parametrize(("first", "status"), [(OK, "ok"), (IDLE, "ok"), (BAD, "error")])
def test_half_an_end_ends_after_the_grace(first: KernelMessage, status: str) -> None:
    execution = running()
    execution.receive(first, 1.0)
    assert execution.tick(1.0 + GRACE - 0.01) == []
    assert end_of(execution.tick(1.0 + GRACE)).status == status


def test_aborted_by_the_kernel_is_an_error() -> None:
    execution = running()
    outputs = [*execution.receive(ABORTED, 0), *execution.receive(IDLE, 0)]
    assert [o.name for o in outputs if isinstance(o, ErrorEvent)] == ["ExecutionAborted"]


def test_output_after_idle_is_kept_where_a_kernel_is_known_for_it() -> None:
    execution = running(settle=0.5)
    execution.receive(OK, 1.0)
    assert execution.receive(IDLE, 1.0) == []
    assert len(execution.receive(RESULT, 1.2)) == 1
    assert end_of(execution.tick(2.0)).status is ExecutionStatus.OK


def test_time_out_interrupts_then_kills_on_schedule() -> None:
    execution = running(timeout=10)
    execution.receive(BUSY, 0.1)
    assert execution.deadline() == 10
    assert execution.tick(10) == [Interrupt()]
    for seconds in INTERRUPTS[1:]:
        assert execution.deadline() == 10 + seconds
        assert execution.tick(10 + seconds) == [Interrupt()]
    assert execution.deadline() == 10 + KILL_AFTER
    assert execution.tick(10 + KILL_AFTER) == [Kill()]
    outputs = execution.kernel_ended(KernelEnd(signal=9), 14.1)
    end = end_of(outputs)
    assert (end.status, end.kernel_state, end.cause, end.signal) == (
        ExecutionStatus.INTERRUPTED,
        KernelState.RESET,
        Cause.TIMEOUT,
        9,
    )
    assert [o.name for o in outputs if isinstance(o, ErrorEvent)] == ["ExecutionTimeout"]


def test_an_obeyed_interrupt_preserves_the_kernel() -> None:
    execution = running()
    execution.receive(BUSY, 0.1)
    assert execution.stop(Cause.CANCEL, 1) == [Interrupt()]
    execution.receive(FAILURE, 1.1)
    execution.receive(BAD, 1.1)
    end = end_of(execution.receive(IDLE, 1.1))
    assert (end.status, end.kernel_state, end.cause) == (
        ExecutionStatus.INTERRUPTED,
        KernelState.PRESERVED,
        Cause.CANCEL,
    )


def test_a_cell_that_has_not_begun_is_interrupted_when_it_begins() -> None:
    execution = running()
    assert execution.stop(Cause.DISCONNECT, 1) == []
    assert execution.receive(BUSY, 1.05) == [Interrupt()]


def test_a_kernel_without_interrupts_is_killed_at_once() -> None:
    execution = running(interruptible=False)
    execution.receive(BUSY, 0)
    assert execution.stop(Cause.CANCEL, 1) == [Kill()]


def test_a_kernel_that_cannot_be_killed_does_not_hold_the_cell() -> None:
    execution = running()
    assert execution.stop(Cause.REMOVED, 1) == [Kill()]
    assert end_of(execution.tick(1 + DEATH_GRACE)).cause is Cause.REMOVED


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (KernelEnd(exit_code=1), Cause.EXIT),
        (KernelEnd(signal=11), Cause.SIGNAL),
        (KernelEnd(signal=9, out_of_memory=OutOfMemory()), Cause.OOM),
    ],
)
def test_death_is_a_loss_with_its_cause(end: KernelEnd, cause: Cause) -> None:
    outputs = running().kernel_ended(end, 1)
    told = end_of(outputs)
    assert (told.status, told.kernel_state, told.cause) == (
        ExecutionStatus.LOST,
        KernelState.LOST,
        cause,
    )
    assert (told.exit_code, told.signal) == (end.exit_code, end.signal)


def test_a_queued_cell_is_taken_out() -> None:
    execution = Execution(Terms("e", "c", "python"))
    execution.accept(3)
    end = end_of(execution.stop(Cause.CANCEL, 1))
    assert (end.status, end.kernel_state) == (ExecutionStatus.INTERRUPTED, KernelState.PRESERVED)


def test_the_first_reason_to_stop_is_told() -> None:
    execution = running()
    execution.stop(Cause.CANCEL, 1)
    execution.stop(Cause.TIMEOUT, 2)
    assert end_of(execution.kernel_ended(KernelEnd(signal=9), 5)).cause is Cause.CANCEL


def test_starting_twice_is_the_callers_mistake() -> None:
    execution = running()
    with pytest.raises(WrongState):
        execution.start(1)


_MESSAGES = (BUSY, IDLE, INPUT, OK, BAD, ABORTED, PRINT, RESULT, FAILURE)
_STEPS = st.one_of(
    st.sampled_from(_MESSAGES),
    st.sampled_from(list(Cause)),
    st.builds(
        KernelEnd,
        exit_code=st.one_of(st.none(), st.integers(0, 255)),
        signal=st.one_of(st.none(), st.integers(1, 15)),
    ),
    st.sampled_from(["start", "start failed", "wait", "move"]),
)


def _step(execution: Execution, step: Any, now: float) -> list[Output]:
    if isinstance(step, KernelMessage):
        return execution.receive(step, now)
    if isinstance(step, Cause):
        stops = (Cause.TIMEOUT, Cause.CANCEL, Cause.DISCONNECT, Cause.RESTART, Cause.REMOVED)
        return execution.stop(step, now) if step in stops else []
    if isinstance(step, KernelEnd):
        return execution.kernel_ended(step, now) if execution.state is State.RUNNING else []
    if step == "move":
        return execution.moved(1)
    if step == "start" and execution.state is State.QUEUED:
        execution.start(now)
    if step == "start failed" and execution.state is State.QUEUED:
        return execution.start_failed("no", now)
    return execution.tick(now) if step == "wait" else []


@settings(max_examples=400, deadline=None)
@given(
    steps=st.lists(st.tuples(_STEPS, st.floats(0, 3)), max_size=30),
    timeout=st.one_of(st.none(), st.floats(0, 5)),
    settle=st.sampled_from([0.0, 0.5]),
    interruptible=st.booleans(),
)
def test_every_execution_ends_exactly_once(
    steps: list[tuple[Any, float]], timeout: float | None, settle: float, interruptible: bool
) -> None:
    terms = Terms("e", "c", "python", timeout, interruptible, settle)
    execution = Execution(terms)
    outputs = execution.accept(0)
    now = 0.0
    for step, pause in steps:
        now += pause
        outputs += _step(execution, step, now)
    outputs += _to_the_end(execution, now)
    events = [output for output in outputs if not isinstance(output, (Interrupt, Kill))]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [type(event) for event in events].count(EndOfExecution) == 1
    assert isinstance(events[-1], EndOfExecution)
    assert sum(isinstance(event, ErrorEvent) for event in events) <= 1
    assert execution.deadline() is None
    for late in _MESSAGES:
        assert execution.receive(late, now + 100) == []


def _to_the_end(execution: Execution, now: float) -> list[Output]:
    """Nothing comes any more but time, and a kernel that obeys when it is killed."""
    outputs: list[Output] = []
    if execution.state is State.QUEUED:
        execution.start(now)
    if execution.state is State.RUNNING and execution.deadline() is None:
        outputs += execution.stop(Cause.CANCEL, now)
    for _ in range(20):
        deadline = execution.deadline()
        if deadline is None:
            break
        now = max(now, deadline)
        outputs += execution.tick(now)
    return outputs


@pytest.mark.parametrize(
    ("shortage", "words"),
    [
        (OutOfMemory(512 << 20, 511 << 20), ("limit is 512 MiB", "peak 511 MiB")),
        (OutOfMemory(512 << 20), ("limit is 512 MiB",)),
        (OutOfMemory(None, 511 << 20), ("all that the machine has",)),
    ],
)
def test_want_of_memory_is_named(shortage: OutOfMemory, words: tuple[str, ...]) -> None:
    outputs = running().kernel_ended(KernelEnd(None, 9, shortage), 1)
    (error,) = (output for output in outputs if isinstance(output, ErrorEvent))
    assert error.name == "MemoryLimitExceeded"
    for word in words:
        assert word in error.value
