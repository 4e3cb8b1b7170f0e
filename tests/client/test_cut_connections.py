"""Cells whose connection is really cut, in real sandboxes: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from code_interpreter import (
    AsyncSandbox,
    Cause,
    ConnectionLostException,
    ExecutionStatus,
    KernelState,
    Sandbox,
)
from code_interpreter.gateway.run import RETURN_SECONDS
from tests.client.line import Line
from tests.service import Service

COUNTS = "import time\nfor number in range(200):\n    print(number); time.sleep(0.01)\nnumber"
COUNTED = "".join(f"{number}\n" for number in range(200))


@pytest.fixture(scope="module")
def shared(service: Service) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(**service.options)
    yield sandbox
    sandbox.kill()


@pytest.fixture
def line(service: Service) -> Iterator[Line]:
    line = Line(service.url)
    yield line
    line.close()


@pytest.fixture
def sandbox(service: Service, line: Line, shared: Sandbox) -> Sandbox:
    """The shared sandbox, over a line that can be cut."""
    options = {**service.options, "api_url": line.url, "sandbox_url": line.url}
    return Sandbox.connect(shared.sandbox_id, **options)


@contextlib.contextmanager
def cuts(line: Line, *times: float) -> Iterator[None]:
    """Cut the line at these seconds from now."""
    timers = [threading.Timer(when, line.cut) for when in times]
    for timer in timers:
        timer.start()
    yield
    for timer in timers:
        timer.join()


@pytest.mark.parametrize("background", [False, True])
def test_nothing_of_a_cell_is_lost(sandbox: Sandbox, line: Line, background: bool) -> None:
    sandbox.run_code("kept = 5")
    heard: list[str] = []
    with cuts(line, 0.3, 0.7, 1.1, 1.2):
        if background:
            execution = sandbox.run_code(COUNTS, background=True).wait(timeout=20)
        else:
            execution = sandbox.run_code(COUNTS, on_stdout=lambda out: heard.append(out.line))
    assert execution.status is ExecutionStatus.OK
    assert execution.kernel_state is KernelState.PRESERVED
    assert execution.text == "199"
    assert "".join(execution.logs.stdout) == COUNTED
    assert background or "".join(heard) == COUNTED
    assert sandbox.run_code("kept").text == "5"


async def test_nothing_of_a_cell_is_lost_under_asyncio(
    service: Service, line: Line, shared: Sandbox
) -> None:
    options = {**service.options, "api_url": line.url, "sandbox_url": line.url}
    sandbox = await AsyncSandbox.connect(shared.sandbox_id, **options)
    loop = asyncio.get_running_loop()
    for when in (0.3, 0.7, 1.1, 1.2):
        loop.call_later(when, line.cut)
    execution = await sandbox.run_code(COUNTS)
    assert execution.text == "199"
    assert "".join(execution.logs.stdout) == COUNTED
    assert (await sandbox.run_code("number")).text == "199"


def test_a_stream_goes_on_over_cuts(sandbox: Sandbox, line: Line) -> None:
    with cuts(line, 0.3, 0.9):
        with sandbox.stream_code(COUNTS) as events:
            numbers = [event.seq for event in events]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "".join(events.execution.logs.stdout) == COUNTED


def test_a_question_and_its_answer_survive_cuts(sandbox: Sandbox, line: Line) -> None:
    def answer(prompt: str) -> str:
        line.cut()  # the answer is sent on a line that is dead
        return prompt * 2

    code = "input('a') + input('b') + input('c')"
    assert sandbox.run_code(code, on_input=answer, timeout=20).text == "aabbcc"


def test_a_cancel_survives_a_cut(sandbox: Sandbox, line: Line) -> None:
    handle = sandbox.run_code("import time; time.sleep(60)", background=True)
    line.cut()
    handle.cancel()
    execution = handle.wait(timeout=10)
    assert execution.cause is Cause.CANCEL


def test_a_cell_of_a_client_that_does_not_come_back_in_time_is_stopped(
    sandbox: Sandbox, line: Line
) -> None:
    sandbox.run_code("kept = 5")

    def away() -> None:
        line.down = True
        line.cut()
        time.sleep(RETURN_SECONDS + 1)
        line.down = False

    leaving = threading.Timer(0.5, away)
    leaving.start()
    with pytest.raises(ConnectionLostException, match="interrupted it") as caught:
        sandbox.run_code("import time; time.sleep(60)")
    leaving.join()
    assert caught.value.execution is not None
    assert caught.value.execution.kernel_state is KernelState.PRESERVED
    assert sandbox.run_code("kept").text == "5"
