"""Cells that end, harm or outlive their kernel: each ends with the right verdict, the next runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from code_interpreter.protocol.executions import (
    Cause,
    EndOfExecution,
    ExecutionStatus,
    KernelState,
    NumberOfExecutions,
)
from tests.gateway.world import Link, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

SWALLOW = """
import time
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""
IGNORE_IN_C = """
import ctypes, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    ctypes.CDLL(None).sleep(60)
"""


@pytest.mark.parametrize(
    ("code", "cause", "exit_code", "number"),
    [
        ("import os; os._exit(7)", Cause.EXIT, 7, None),
        ("import os; os.kill(os.getpid(), 9)", Cause.SIGNAL, None, 9),
        ("import ctypes; ctypes.string_at(0)", Cause.SIGNAL, None, 11),
        ("import os; os.abort()", Cause.SIGNAL, None, 6),
    ],
)
async def test_death_is_told_within_a_second_and_the_next_cell_runs(
    shared: World, code: str, cause: Cause, exit_code: int | None, number: int | None
) -> None:
    async with shared.link() as link:
        await link.run("here = 1")
        outcome = await link.run(code, deadline=2)
        end = outcome.end
        assert (end.status, end.kernel_state, end.cause) == (
            ExecutionStatus.LOST,
            KernelState.LOST,
            cause,
        )
        assert (end.exit_code, end.signal) == (exit_code, number)
        assert outcome.error is not None
        assert "fresh kernel" in outcome.error.value
        assert (await link.run("'here' in globals()", deadline=10)).text == "False"


async def test_sys_exit_is_an_error_and_ends_nothing(shared: World) -> None:
    async with shared.link() as link:
        await link.run("stays = 1")
        outcome = await link.run("import sys; sys.exit(3)")
        assert outcome.end.kernel_state is KernelState.PRESERVED
        assert outcome.error is not None
        assert outcome.error.name == "SystemExit"
        assert (await link.run("stays")).text == "1"


@pytest.mark.parametrize("code", [SWALLOW, IGNORE_IN_C])
async def test_a_cell_that_ignores_interrupts_is_killed_on_schedule(
    shared: World, code: str
) -> None:
    async with shared.link() as link:
        outcome = await link.run(code, timeout=0.5, deadline=15)
        end = outcome.end
        assert (end.status, end.kernel_state, end.cause) == (
            ExecutionStatus.INTERRUPTED,
            KernelState.RESET,
            Cause.TIMEOUT,
        )
        assert 4 < end.receipt.wall_seconds < 9
        assert (await link.run("1+1", deadline=15)).text == "2"


async def test_a_time_out_keeps_the_variables(shared: World) -> None:
    async with shared.link() as link:
        await link.run("x = 3")
        for _ in range(5):
            outcome = await link.run("import time; time.sleep(30)", timeout=0.2)
            assert outcome.end.status is ExecutionStatus.INTERRUPTED
            assert outcome.end.kernel_state is KernelState.PRESERVED
            assert outcome.error is not None
            assert outcome.error.name == "KeyboardInterrupt"
            assert (await link.run("x")).text == "3"


async def test_a_time_out_ends_awaiting_cells(shared: World) -> None:
    outcome = await shared.run("import asyncio; await asyncio.sleep(30)", timeout=0.3)
    assert outcome.end.status is ExecutionStatus.INTERRUPTED
    assert outcome.end.kernel_state is KernelState.PRESERVED


async def test_a_time_out_ends_what_the_cell_started(shared: World) -> None:
    outcome = await shared.run("!sleep 31.4159", timeout=0.3)
    assert outcome.end.kernel_state is KernelState.PRESERVED
    assert not [command for command in _commands() if "31.4159" in command]


async def test_what_a_kernel_started_ends_with_it(shared: World) -> None:
    async with shared.link() as link:
        source = "import os, subprocess\nsubprocess.Popen(['sleep', '4571'])\nos._exit(7)"
        assert (await link.run(source)).end.cause is Cause.EXIT
    async with asyncio.timeout(5):
        while any("sleep 4571" in command for command in _commands()):
            await asyncio.sleep(0.02)


def _commands() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_text())
    return found


async def test_a_cell_that_catches_the_interrupt_and_ends_is_told_as_it_is(shared: World) -> None:
    code = "import time\ntry:\n    time.sleep(30)\nexcept KeyboardInterrupt:\n    print('tidy')"
    outcome = await shared.run(code, timeout=0.3)
    assert outcome.stdout == "tidy\n"
    assert (outcome.end.status, outcome.end.cause) == (ExecutionStatus.OK, Cause.TIMEOUT)


async def _running(link: Link, code: str, **fields: object) -> str:
    execution_id = await link.begin(code, **fields)
    await link.until(execution_id, NumberOfExecutions)
    return execution_id


@pytest.mark.parametrize("action", ["restart", "delete"])
async def test_restart_and_removal_end_the_running_cell(shared: World, action: str) -> None:
    async with shared.client() as client, shared.link() as link:
        context_id = (await client.post("/contexts", json={})).json()["id"]
        execution_id = await _running(link, SWALLOW, context_id=context_id)
        waiting = await link.begin("1+1", context_id=context_id)
        if action == "restart":
            assert (await client.post(f"/contexts/{context_id}/restart")).status_code == 200
        else:
            assert (await client.delete(f"/contexts/{context_id}")).status_code == 200
        end = await link.until(execution_id, EndOfExecution, 5)
        second = await link.outcome(waiting)
        assert end.status is ExecutionStatus.INTERRUPTED
        if action == "restart":
            assert (end.cause, end.kernel_state) == (Cause.RESTART, KernelState.RESET)
            assert second.text == "2"
            await client.delete(f"/contexts/{context_id}")
        else:
            assert end.cause is Cause.REMOVED
            assert second.error is not None
            assert second.error.name == "ExecutionAborted"


async def test_directory_and_variables_are_there_again_after_death(shared: World) -> None:
    directory = shared.home / "somewhere"
    directory.mkdir()
    read = "import os; (os.getcwd(), os.environ.get('AGAIN'))"
    async with shared.client() as client, shared.link() as link:
        await client.post("/init", json={"envVars": {"AGAIN": "yes"}})
        made = await client.post("/contexts", json={"cwd": str(directory)})
        context_id = made.json()["id"]
        for code in ("import os; os.chdir('/'); os._exit(1)", "import os; os._exit(1)"):
            await link.run(code, context_id=context_id)
            text = (await link.run(read, context_id=context_id)).text
            assert text == f"('{directory}', 'yes')"
        listed = {each["id"]: each["cwd"] for each in (await client.get("/contexts")).json()}
        assert listed[context_id] == str(directory)
        await client.delete(f"/contexts/{context_id}")


async def test_a_kernel_that_dies_between_cells_is_replaced(shared: World) -> None:
    async with shared.link() as link:
        pid = int((await link.run("import os; os.getpid()")).text or 0)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            while pid in shared.kernels():
                await asyncio.sleep(0.01)
        assert int((await link.run("import os; os.getpid()")).text or 0) != pid


async def test_a_kernel_that_cannot_start_says_why(world: World) -> None:
    gone = world.home / "gone"
    gone.mkdir()
    async with world.client() as client, world.link() as link:
        made = (await client.post("/contexts", json={"cwd": str(gone)})).json()
        await link.run("1", context_id=made["id"])
        gone.rmdir()
        await link.run("import os; os._exit(1)", context_id=made["id"])
        outcome = await link.run("1", context_id=made["id"])
        assert outcome.end.cause is Cause.START_FAILED
        assert outcome.error is not None
        assert "gone" in outcome.error.value
        gone.mkdir()
        assert (await link.run("1+1", context_id=made["id"])).text == "2"


async def test_a_kernel_that_dies_while_it_starts_says_how(world: World) -> None:
    """The next one starts as soon as what ended it is gone."""
    fatal = world.home / "sitecustomize.py"
    fatal.write_text("import os\nprint('no way', flush=True)\nos._exit(3)")
    async with world.client() as client, world.link() as link:
        await link.run("1")
        await client.post("/init", json={"envVars": {"PYTHONPATH": str(world.home)}})
        made = (await client.post("/contexts", json={})).json()
        outcome = await link.run("1", context_id=made["id"], deadline=20)
        end = outcome.end
        assert (end.status, end.cause) == (ExecutionStatus.LOST, Cause.START_FAILED)
        assert outcome.error is not None
        assert outcome.error.name == "KernelStartFailed"
        assert "exited with code 3 before it was ready" in outcome.error.value
        assert "no way" in outcome.error.value
        fatal.unlink()
        assert (await link.run("1+1", context_id=made["id"])).text == "2"


async def test_an_endless_javascript_cell_ends_and_the_next_runs(shared: World) -> None:
    async with shared.link() as link:
        outcome = await link.run("while (true) {}", language="javascript", timeout=0.5, deadline=8)
        assert outcome.end.cause is Cause.TIMEOUT
        assert (await link.run("1+1", language="javascript", deadline=10)).text == "2"


async def test_ten_thousand_threads_are_an_error_of_the_cell_at_most(shared: World) -> None:
    code = """
import threading, time
made = []
try:
    for _ in range(10_000):
        thread = threading.Thread(target=time.sleep, args=(1,), daemon=True)
        thread.start()
        made.append(thread)
except RuntimeError as error:
    print(error)
len(made) > 100
"""
    async with shared.link() as link:
        assert (await link.run(code, deadline=40)).text == "True"
        assert (await link.run("1+1")).text == "2"


async def test_removed_contexts_leave_no_kernel(world: World) -> None:
    async with world.client() as client:
        await world.execute("1")
        before = set(world.kernels())
        made = [(await client.post("/contexts", json={})).json()["id"] for _ in range(3)]
        for each in made:
            assert (await client.delete(f"/contexts/{each}")).status_code == 200
        async with asyncio.timeout(5):
            while set(world.kernels()) != before:
                await asyncio.sleep(0.05)


async def test_the_gateway_takes_its_kernels_along(world: World) -> None:
    await world.execute("1")
    kernels = world.kernels()
    assert kernels
    world.process.terminate()
    async with asyncio.timeout(10):
        while any(Path(f"/proc/{pid}").exists() for pid in kernels):
            await asyncio.sleep(0.05)
