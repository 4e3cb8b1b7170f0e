"""A gateway that is killed: its successor goes on with contexts and kernels."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from code_interpreter.gateway.ledger import start_ticks
from code_interpreter.protocol.executions import (
    Attach,
    Cause,
    EndOfExecution,
    Execute,
    ExecutionStatus,
    KernelState,
    NumberOfExecutions,
    Refused,
)
from tests.gateway.world import World, running_gateway, short_directory


async def killed(world: World) -> None:
    world.process.kill()
    await world.process.wait()


async def test_contexts_keep_their_variables() -> None:
    with short_directory() as directory:
        async with running_gateway(directory) as first:
            async with first.client() as client:
                await client.post("/init", json={"envVars": {"KEPT": "yes"}})
                made = (await client.post("/contexts", json={"cwd": "/tmp"})).json()
                await first.execute("x = 1")
                await first.execute("x = 2", context_id=made["id"])
                await first.execute("var = 3", language="javascript")
                listed = (await client.get("/contexts")).json()
            await killed(first)
        async with running_gateway(directory) as second, second.client() as client:
            assert (await client.get("/contexts")).json() == listed
            assert (await second.execute("x"))[-2]["text"] == "1"
            assert (await second.execute("x", context_id=made["id"]))[-2]["text"] == "2"
            read = "import os; os.environ['KEPT']"
            assert (await second.execute(read))[-2]["text"] == "yes"
            pid = int((await second.execute("os.getpid()"))[-2]["text"])
            outcome = await second.run("os._exit(1)")
            assert outcome.end.kernel_state is KernelState.LOST
            assert start_ticks(pid) is None
            assert (await second.execute("1+1"))[-2]["text"] == "2"


async def test_a_cell_whose_adopted_kernel_dies_has_a_receipt() -> None:
    """What is known of it: its parent, who would know all, died before."""
    code = """
import os, time
data = bytearray(150_000_000)
until = time.process_time() + 1.5
while time.process_time() < until: pass
print('x' * 99, flush=True); time.sleep(1.2)
os.kill(os.getpid(), 9)
"""
    with short_directory() as directory:
        async with running_gateway(directory) as first:
            await first.run("1")
            await killed(first)
        async with running_gateway(directory) as second:
            outcome = await second.run(code)
    assert outcome.end.kernel_state is KernelState.LOST
    assert outcome.error is not None
    assert "None" not in outcome.error.value
    receipt = outcome.end.receipt
    assert receipt.wall_seconds > 2.5
    assert 1.4 < (receipt.cpu_seconds or 0) < receipt.wall_seconds + 0.5
    assert 150_000_000 < (receipt.peak_memory_bytes or 0) < 1_000_000_000
    assert receipt.stdout.total_bytes == 100


@pytest.mark.parametrize("stubborn", [False, True])
async def test_the_cell_that_ran_is_told_to_be_lost(stubborn: bool) -> None:
    code = "import time\nwhile True:\n    try: time.sleep(60)\n    except BaseException:\n        "
    code += "pass" if stubborn else "raise"
    execution_id, done = uuid.uuid4().hex, uuid.uuid4().hex
    with short_directory() as directory:
        async with running_gateway(directory) as first:
            async with first.link() as link:
                await link.run("x = 1", execution_id=done)
                await link.begin(code, execution_id=execution_id)
                await link.until(execution_id, NumberOfExecutions)
                await killed(first)
        async with running_gateway(directory) as second, second.link() as link:
            await link.send(Attach(execution_id=execution_id, after=2))
            end = await link.next_of(execution_id)
            assert isinstance(end, EndOfExecution)
            assert (end.seq, end.status, end.cause) == (
                3,
                ExecutionStatus.LOST,
                Cause.GATEWAY_RESTART,
            )
            assert end.kernel_state is (KernelState.LOST if stubborn else KernelState.PRESERVED)
            again = await link.run(code, execution_id=execution_id)
            assert [event.type for event in again.events] == ["accepted", "end_of_execution"]
            expected = "NameError" if stubborn else None
            outcome = await link.run("x")
            assert (outcome.error.name if outcome.error else None) == expected
            await link.send(Execute(execution_id=done, code="x"))
            answer = await link.next_of(done)
            assert isinstance(answer, Refused)
            assert answer.status == 410


async def test_nothing_is_left_after_the_last_gateway() -> None:
    with short_directory() as directory:
        async with running_gateway(directory) as first:
            text = (await first.run("import os; os.getpid()")).text
            await killed(first)
        async with running_gateway(directory) as second:
            await second.run("1")
        async with asyncio.timeout(5):
            while start_ticks(int(text or 0)) is not None:
                await asyncio.sleep(0.05)
        assert list((directory / "state" / "kernels").iterdir()) == []
