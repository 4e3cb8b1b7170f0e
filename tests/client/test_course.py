"""However often the connection breaks, each event is news exactly once."""

from __future__ import annotations

import pytest
from e2b import NotFoundException
from hypothesis import given
from hypothesis import strategies as st

from code_interpreter import ExecutionLostException, InvalidCodeException
from code_interpreter.course import Course
from code_interpreter.protocol.executions import (
    Attach,
    EndOfExecution,
    Execute,
    ExecutionEvent,
    ExecutionStatus,
    KernelState,
    Receipt,
    Refused,
    Stdout,
)


def _events(count: int) -> list[ExecutionEvent]:
    printed = [Stdout(execution_id="e", seq=seq, text="", timestamp="") for seq in range(1, count)]
    end = EndOfExecution(
        execution_id="e",
        seq=count,
        status=ExecutionStatus.OK,
        kernel_state=KernelState.PRESERVED,
        receipt=Receipt(wall_seconds=0),
    )
    return [*printed, end]


def _refused(status: int) -> Refused:
    return Refused(execution_id="e", status=status, message="why")


@given(
    count=st.integers(1, 12),
    connections=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=8),
)
def test_each_event_is_news_once_and_in_order(
    count: int, connections: list[tuple[int, bool]]
) -> None:
    """Each connection brings some events, maybe all of them twice, and breaks."""
    events = _events(count)
    course = Course(Execute(execution_id="e", code="1"))
    news: list[ExecutionEvent | None] = []
    for heard, doubled in connections:
        (opening,) = course.opening()
        course.reopen()
        after = opening.after if isinstance(opening, Attach) else 0
        brought = events[after : after + heard]
        news += [course.receive(event) for event in brought + brought * doubled]
    numbers = [event.seq for event in news if event is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    assert course.ended == (len(numbers) == count)


@given(count=st.integers(2, 12), data=st.data())
def test_attaching_reads_on_after_what_is_known(count: int, data: st.DataObject) -> None:
    after = data.draw(st.integers(0, count - 1))
    course = Course(Attach(execution_id="e", after=after))
    news = [course.receive(event) for event in _events(count)]
    assert [event.seq for event in news if event is not None] == list(range(after + 1, count + 1))


def test_what_nobody_answered_is_said_again() -> None:
    execute = Execute(execution_id="e", code="1")
    course = Course(execute)
    assert course.opening() == [execute]
    assert course.opening() == [execute]
    course.receive(_events(2)[0])
    assert course.opening() == [Attach(execution_id="e", after=1)]


def test_an_answer_is_said_again_until_something_follows_it() -> None:
    course = Course(Execute(execution_id="e", code="1"))
    course.receive(_events(3)[0])
    answer = course.answer("line")
    assert answer.seq == 1
    assert course.opening() == [Attach(execution_id="e", after=1), answer]
    course.receive(_events(3)[1])
    assert course.opening() == [Attach(execution_id="e", after=2)]


def test_a_wish_to_cancel_is_said_again() -> None:
    course = Course(Execute(execution_id="e", code="1"))
    course.receive(_events(3)[0])
    cancel = course.cancel()
    assert course.opening() == [Attach(execution_id="e", after=1), cancel]


def test_a_refusal_ends_what_was_not_taken() -> None:
    with pytest.raises(NotFoundException, match="why"):
        Course(Execute(execution_id="e", code="1")).receive(_refused(404))
    with pytest.raises(InvalidCodeException, match="why"):
        Course(Execute(execution_id="e", code="1")).receive(_refused(413))


def test_a_refusal_after_the_answer_is_of_something_else() -> None:
    course = Course(Execute(execution_id="e", code="1"))
    course.receive(_events(2)[0])
    assert course.receive(_refused(409)) is None
    assert not course.ended


def test_a_refusal_on_a_new_connection_means_that_it_is_lost() -> None:
    course = Course(Execute(execution_id="e", code="1"))
    course.receive(_events(2)[0])
    course.reopen()
    with pytest.raises(ExecutionLostException, match="does not know"):
        course.receive(_refused(404))
