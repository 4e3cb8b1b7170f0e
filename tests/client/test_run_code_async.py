"""`AsyncSandbox.run_code` over the WebSocket."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from e2b import NotFoundException, SandboxNotRunningException, TimeoutException

from code_interpreter import (
    AsyncSandbox,
    Cause,
    ExecutionLostException,
    ExecutionTimeoutException,
    InputPrompt,
    InvalidCodeException,
    OutputMessage,
)
from code_interpreter.protocol import executions as wire
from tests.client.peer import HANGS, SMALL, Peer, program, result, stdout


async def test_an_execution_has_its_output_and_value(peer: Peer) -> None:
    execution = await peer.async_sandbox().run_code(SMALL)
    assert execution.text == "2"
    assert execution.logs.stdout == ["hello\n"]
    assert execution.receipt is not None


async def test_callbacks_may_be_functions_and_coroutine_functions(peer: Peer) -> None:
    heard: list[Any] = []

    async def hear(message: OutputMessage) -> None:
        await asyncio.sleep(0)
        heard.append(message.line)

    await peer.async_sandbox().run_code(
        SMALL, on_stdout=hear, on_result=lambda value: heard.append(value.text)
    )
    assert heard == ["hello\n", "2"]


async def test_one_websocket_serves_many_executions_at_once(peer: Peer) -> None:
    sandbox = peer.async_sandbox()
    codes = [program(["sleep", 0.2], result(str(number)), ["end"]) for number in range(20)]
    began = time.monotonic()
    executions = await asyncio.gather(*map(sandbox.run_code, codes))
    assert time.monotonic() - began < 1.5
    assert [execution.text for execution in executions] == [str(number) for number in range(20)]
    assert peer.opened == 1


async def test_a_time_out_cancels_and_raises_after_about_its_length(peer: Peer) -> None:
    sandbox = peer.async_sandbox()
    began = time.monotonic()
    with pytest.raises(ExecutionTimeoutException) as caught:
        await sandbox.run_code(HANGS, timeout=0.5)
    assert 0.45 < time.monotonic() - began < 0.9
    assert caught.value.execution.cause is Cause.CANCEL
    assert (await sandbox.run_code(SMALL)).text == "2"


async def test_a_task_that_is_cancelled_cancels_its_cell(peer: Peer) -> None:
    sandbox = peer.async_sandbox()
    started = asyncio.Event()
    task = asyncio.create_task(sandbox.run_code(HANGS, on_stdout=lambda _: started.set()))
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (cell,) = peer.cells.values()
    for _ in range(200):
        await asyncio.sleep(0.01)
        if cell.cancelled.is_set():
            break
    assert cell.cancelled.is_set()
    assert (await sandbox.run_code(SMALL)).text == "2"


async def test_a_time_out_error_of_a_callback_is_passed_on(peer: Peer) -> None:
    async def fail(message: OutputMessage) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await peer.async_sandbox().run_code(SMALL, on_stdout=fail)


async def test_input_is_asked_for(peer: Peer) -> None:
    async def answer(prompt: InputPrompt) -> str:
        return f"<{prompt}>"

    code = program(["input", "Word: "], ["end"])
    execution = await peer.async_sandbox().run_code(code, on_input=answer)
    assert execution.logs.stdout == ["<Word: >"]


async def test_a_lost_connection_is_made_again_and_read_on(peer: Peer) -> None:
    code = program(stdout("a"), ["drop"], stdout("b"), ["drop"], result("c"), ["end"])
    execution = await peer.async_sandbox().run_code(code, timeout=10)
    assert execution.logs.stdout == ["a", "b"]
    assert execution.text == "c"
    assert peer.opened == 3
    assert peer.runs == 1


async def test_executions_go_on_after_an_idle_connection_was_lost(peer: Peer) -> None:
    sandbox = peer.async_sandbox()
    await sandbox.run_code(SMALL)
    peer.drop_all()
    await asyncio.sleep(0.1)
    assert (await sandbox.run_code(SMALL)).text == "2"


async def test_a_sandbox_that_is_killed_meanwhile_is_named(peer: Peer) -> None:
    async def kill() -> None:
        await asyncio.sleep(0.3)
        peer.gone = True
        peer.drop_all()

    killer = asyncio.create_task(kill())
    with pytest.raises(
        SandboxNotRunningException, match="sandbox was killed while the request was in progress"
    ):
        await peer.async_sandbox().run_code(HANGS)
    await killer


async def test_refusals_are_typed(peer: Peer) -> None:
    sandbox = peer.async_sandbox()
    with pytest.raises(NotFoundException, match="Context missing not found"):
        await sandbox.run_code("[]", context="missing")
    with pytest.raises(NotFoundException, match="Context missing not found"):
        await sandbox.run_code("[]", context="missing", background=True)
    with pytest.raises(InvalidCodeException, match="not int"):
        await sandbox.run_code(7)  # type: ignore[call-overload]
    peer.gone = True
    with pytest.raises(TimeoutException, match="was not found"):
        await peer.async_sandbox().run_code(SMALL)


async def test_an_execution_that_the_sandbox_forgot_is_lost(peer: Peer) -> None:
    peer.forgets = True
    with pytest.raises(ExecutionLostException):
        await peer.async_sandbox().run_code(program(stdout("a"), ["drop"]), timeout=5)


def test_a_sandbox_object_may_be_used_in_one_event_loop_after_another(peer: Peer) -> None:
    made: list[AsyncSandbox] = []

    async def first() -> None:
        made.append(peer.async_sandbox())
        await made[0].run_code(SMALL)

    async def then() -> str | None:
        return (await made[0].run_code(SMALL)).text

    asyncio.run(first())
    assert asyncio.run(then()) == "2"


async def test_the_reader_ends_with_the_sandbox_object(peer: Peer) -> None:
    before = len(asyncio.all_tasks())
    sandbox = peer.async_sandbox()
    await sandbox.run_code(SMALL)
    assert len(asyncio.all_tasks()) > before
    del sandbox
    gc.collect()
    for _ in range(200):
        await asyncio.sleep(0.01)
        if not peer.sockets and len(asyncio.all_tasks()) == before:
            break
    assert not peer.sockets
    assert len(asyncio.all_tasks()) == before


async def test_events_can_be_iterated_over(peer: Peer) -> None:
    events = await peer.async_sandbox().stream_code(SMALL)
    async with events:
        kinds = [event.type async for event in events]
    assert kinds == ["accepted", "stdout", "result", "end_of_execution"]
    assert events.done
    assert events.execution.text == "2"


async def test_leaving_a_stream_early_cancels_the_cell(peer: Peer) -> None:
    events = await peer.async_sandbox().stream_code(HANGS)
    async with events:
        async for event in events:
            if isinstance(event, wire.Stdout):
                break
    (cell,) = peer.cells.values()
    for _ in range(200):
        await asyncio.sleep(0.01)
        if cell.cancelled.is_set():
            break
    assert cell.cancelled.is_set()


async def test_a_background_cell_can_be_waited_for_cancelled_and_attached_to(peer: Peer) -> None:
    sandbox = peer.async_sandbox()
    handle = await sandbox.run_code(HANGS, background=True)
    with pytest.raises(TimeoutException, match="runs on"):
        await handle.wait(timeout=0.2)
    other = await sandbox.attach_execution(handle.id)
    await other.cancel()
    assert (await other.wait()).cause is Cause.CANCEL
    assert (await handle.wait()).cause is Cause.CANCEL
    assert handle.execution.logs.stdout == ["before\n"]
