"""Executions in the background, streams of events, attaching."""

from __future__ import annotations

import time

import pytest
from e2b import InvalidArgumentException, NotFoundException, SandboxException, TimeoutException

from code_interpreter import (
    Cause,
    ExecutionStatus,
    ExecutionTimeoutException,
    SandboxKilledException,
)
from code_interpreter.protocol import executions as wire
from tests.client.peer import HANGS, SMALL, Peer, program, stdout


def test_events_can_be_iterated_over(peer: Peer) -> None:
    with peer.sandbox().stream_code(SMALL) as events:
        kinds = [event.type for event in events]
    assert kinds == ["accepted", "stdout", "result", "end_of_execution"]
    assert events.execution.text == "2"
    assert events.execution.status is ExecutionStatus.OK


def test_a_cell_that_is_refused_is_told_when_it_is_started(peer: Peer) -> None:
    sandbox = peer.sandbox()
    with pytest.raises(NotFoundException, match="Context missing"):
        sandbox.run_code("[]", context="missing", background=True)
    with pytest.raises(NotFoundException, match="Context missing"):
        sandbox.stream_code("[]", context="missing")


def test_leaving_a_stream_early_cancels_the_cell(peer: Peer) -> None:
    sandbox = peer.sandbox()
    with sandbox.stream_code(HANGS) as events:
        for event in events:
            if isinstance(event, wire.Stdout):
                break
    (cell,) = peer.cells.values()
    deadline = time.monotonic() + 5
    while not cell.cancelled.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cell.cancelled.is_set()


def test_a_stream_raises_at_its_time_out(peer: Peer) -> None:
    began = time.monotonic()
    with peer.sandbox().stream_code(HANGS, timeout=0.4) as events:
        with pytest.raises(ExecutionTimeoutException):
            list(events)
    assert time.monotonic() - began < 0.9


def test_a_background_cell_outlives_its_sandbox_object(peer: Peer) -> None:
    code = program(stdout("a"), ["sleep", 0.4], stdout("b"), ["end"])
    handle_id = peer.sandbox().run_code(code, background=True).id
    (execute,) = peer.messages
    assert isinstance(execute, wire.Execute)
    assert execute.on_disconnect is wire.OnDisconnect.CONTINUE
    assert execute.timeout is None
    execution = peer.sandbox().attach_execution(handle_id).wait(timeout=5)
    assert execution.logs.stdout == ["a", "b"]
    assert execution.id == handle_id


def test_waiting_gives_up_without_stopping_the_cell(peer: Peer) -> None:
    handle = peer.sandbox().run_code(HANGS, background=True)
    began = time.monotonic()
    with pytest.raises(TimeoutException, match="it runs on"):
        handle.wait(timeout=0.3)
    assert time.monotonic() - began < 0.6
    assert not handle.done
    handle.cancel()
    execution = handle.wait(timeout=5)
    assert execution.status is ExecutionStatus.INTERRUPTED
    assert execution.cause is Cause.CANCEL
    assert handle.wait() is execution


def test_closing_a_background_handle_leaves_the_cell_running(peer: Peer) -> None:
    with peer.sandbox().run_code(HANGS, background=True) as handle:
        next(handle)
    time.sleep(0.1)
    assert not peer.cells[handle.id].cancelled.is_set()


def test_two_handles_follow_one_execution(peer: Peer) -> None:
    sandbox = peer.sandbox()
    code = program(stdout("a"), ["sleep", 0.3], stdout("b"), ["end"])
    handle = sandbox.run_code(code, background=True)
    assert sandbox.attach_execution(handle.id).wait(timeout=5).logs.stdout == ["a", "b"]
    assert handle.wait(timeout=5).logs.stdout == ["a", "b"]


def test_what_a_closed_handle_leaves_behind_does_not_mix_with_another_ones_events(
    peer: Peer,
) -> None:
    steps = [step for number in range(100) for step in (stdout(f"{number}\n"), ["sleep", 0.005])]
    sandbox = peer.sandbox()
    with sandbox.run_code(program(*steps, ["end"]), background=True) as handle:
        for _ in range(20):
            next(handle)
    again = sandbox.attach_execution(handle.id).wait(timeout=10)
    assert "".join(again.logs.stdout) == "".join(f"{number}\n" for number in range(100))


def test_attaching_reads_on_from_an_event(peer: Peer) -> None:
    sandbox = peer.sandbox()
    execution = sandbox.run_code(program(stdout("a"), stdout("b"), ["end"]))
    assert execution.id is not None
    handle = sandbox.attach_execution(execution.id, after=2)
    assert handle.wait(timeout=5).logs.stdout == ["b"]


def test_attaching_reads_on_over_a_lost_connection(peer: Peer) -> None:
    code = program(stdout("a"), ["drop"], stdout("b"), ["end"])
    handle = peer.sandbox().run_code(code, background=True)
    assert handle.wait(timeout=10).logs.stdout == ["a", "b"]


def test_a_handle_that_failed_or_was_closed_does_not_wait(peer: Peer) -> None:
    sandbox = peer.sandbox()
    handle = sandbox.run_code(HANGS, background=True)
    handle.close()
    with pytest.raises(SandboxException, match="closed"):
        handle.wait()
    handle = sandbox.run_code(HANGS, background=True)
    peer.gone = True
    peer.drop_all()
    for _ in range(2):
        with pytest.raises(SandboxKilledException):
            handle.wait(timeout=5)


def test_attaching_to_nothing_is_named(peer: Peer) -> None:
    sandbox = peer.sandbox()
    with pytest.raises(NotFoundException, match="no such execution"):
        sandbox.attach_execution("nothing").wait(timeout=5)
    with pytest.raises(InvalidArgumentException, match="execution_id must be"):
        sandbox.attach_execution("not an id")
