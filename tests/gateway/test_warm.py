"""Kernels forked from a warm process instead of started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from code_interpreter.protocol.executions import Cause, ExecutionStatus, KernelState
from tests.gateway.world import ROOT, World, running_gateway, short_directory

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def warm_process() -> AsyncIterator[int]:
    """The gateway's end of the line to a warm process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("warm_init.py")),
        str(theirs.fileno()),
        str(ROOT / "kernels" / "python3"),
        pass_fds=[theirs.fileno()],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    theirs.close()
    with ours:
        yield ours.fileno()
    async with asyncio.timeout(10):
        assert await process.wait() == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def warm() -> AsyncIterator[World]:
    with short_directory() as directory:
        async with warm_process() as line, running_gateway(directory, line) as world:
            async with asyncio.timeout(60):  # on a busy machine it warms up for long
                while (await world.run("1")).error is not None:
                    pass
            yield world


async def test_a_forked_kernel_runs_cells(warm: World) -> None:
    outcome = await warm.run("print('x')\n1 + 1")
    assert (outcome.stdout, outcome.text) == ("x\n", "2")


async def test_it_starts_with_a_clean_namespace_and_count(warm: World) -> None:
    async with warm.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
    lines = await warm.execute("[name for name in dir() if name[0] != '_']", context_id=context_id)
    assert lines[0]["execution_count"] == 1
    assert lines[1]["text"] == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit']"
    again = await warm.execute("sorted(Out), len(In), Out.get(1) is _1", context_id=context_id)
    assert again[1]["text"] == "([1], 3, True)"


async def test_a_further_context_has_everything_imported(warm: World) -> None:
    code = "import sys; sorted({'numpy', 'pandas', 'matplotlib.pyplot'} - set(sys.modules))"
    async with warm.client() as client:
        context_id = (await client.post("/contexts", json={})).json()["id"]
        assert (await warm.execute(code, context_id=context_id))[-2]["text"] == "[]"
        await client.delete(f"/contexts/{context_id}")


async def test_forks_do_not_share_random_numbers(warm: World) -> None:
    code = "import random, numpy, uuid; (random.random(), numpy.random.rand(), uuid.uuid4().hex)"
    texts = []
    async with warm.client() as client:
        for _ in range(3):
            context_id = (await client.post("/contexts", json={})).json()["id"]
            texts.append((await warm.execute(code, context_id=context_id))[-2]["text"])
            await client.delete(f"/contexts/{context_id}")
    parts = [text.strip("()").split(", ") for text in texts]
    assert all(len(set(column)) == 3 for column in zip(*parts, strict=True)), texts


async def test_a_chart_from_a_forked_kernel(warm: World) -> None:
    outcome = await warm.run("import matplotlib.pyplot as plt; plt.plot([1, 2, 4]); plt.show()")
    (result,) = outcome.results
    assert result.bundle.png
    assert result.bundle.chart["type"] == "line"
    assert result.bundle.extra == {}


@pytest.mark.parametrize(
    ("code", "cause", "exit_code", "number"),
    [
        ("import os; os._exit(7)", Cause.EXIT, 7, None),
        ("import os; os.kill(os.getpid(), 9)", Cause.SIGNAL, None, 9),
    ],
)
async def test_death_of_a_forked_kernel(
    warm: World, code: str, cause: Cause, exit_code: int | None, number: int | None
) -> None:
    end = (await warm.run(code, deadline=3)).end
    assert (end.status, end.kernel_state) == (ExecutionStatus.LOST, KernelState.LOST)
    assert (end.cause, end.exit_code, end.signal) == (cause, exit_code, number)
    assert (await warm.run("1+1")).text == "2"


async def test_a_forked_kernel_is_interrupted(warm: World) -> None:
    end = (await warm.run("while True: pass", timeout=0.3)).end
    assert (end.status, end.kernel_state) == (ExecutionStatus.INTERRUPTED, KernelState.PRESERVED)


async def test_programs_run_in_a_forked_kernel(warm: World) -> None:
    outcome = await warm.run("!echo one\nimport os; os.system('echo two'); 0")
    assert outcome.stdout == "one\ntwo\n"


async def test_processes_of_multiprocessing_print(warm: World) -> None:
    code = """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=print, args=("child",))
process.start(); process.join(); process.exitcode
"""
    outcome = await warm.run(code)
    assert (outcome.stdout, outcome.text) == ("child\n", "0")


@pytest.mark.parametrize(
    ("language", "code", "stdout"),
    [("bash", "echo $((1 + 1))", "2\n"), ("java", "System.out.println(1 + 1);", "2\n")],
)
async def test_other_kernels_of_ours_are_forked_too(
    warm: World, language: str, code: str, stdout: str
) -> None:
    if language == "java" and shutil.which("javac") is None:
        pytest.skip("needs a JDK (default-jdk-headless)")
    outcome = await warm.run(code, language=language)
    assert (outcome.stdout, outcome.error) == (stdout, None)


# --- other languages, ahead of their use ----------------------------------------------------


@pytest_asyncio.fixture
async def ahead(warm: World) -> AsyncIterator[World]:
    """With a bash kernel that nobody has asked for."""
    async with warm.client() as client:
        for context in (await client.get("/contexts")).json():
            if context["language"] == "bash":
                await client.delete(f"/contexts/{context['id']}")
        await client.post("/init", json={"languages": ["bash"]})
        await until_live(warm, "bash")
    yield warm


async def until_live(world: World, language: str, *, live: bool = True) -> None:
    async with asyncio.timeout(20), world.client() as client:
        while True:
            specs = (await client.get("/api/kernelspecs")).json()["kernelspecs"]
            live_ones = {each["spec"]["language"] for n, each in specs.items() if n[:5] == "live-"}
            if (language in live_ones) is live:
                return
            await asyncio.sleep(0.05)


async def end_unused(world: World, seconds: float) -> None:
    async with world.client() as client:
        assert (await client.post("/unused", json={"seconds": seconds})).status_code == 204


async def test_a_kernel_that_nobody_uses_ends(ahead: World) -> None:
    await end_unused(ahead, 0.2)
    await until_live(ahead, "bash", live=False)
    await until_live(ahead, "python")
    outcome = await ahead.run("echo again", language="bash")
    assert (outcome.stdout, outcome.end.status) == ("again\n", ExecutionStatus.OK)


async def test_a_kernel_that_somebody_uses_stays(ahead: World) -> None:
    await end_unused(ahead, 0.3)
    await ahead.run("x=1", language="bash")
    await asyncio.sleep(0.6)
    assert (await ahead.run("echo $x", language="bash")).stdout == "1\n"


async def test_cells_come_at_the_moment_it_would_end(ahead: World) -> None:
    """Whichever is first: none of them is lost."""
    for _ in range(10):
        await end_unused(ahead, 0.0)
        outcome = await ahead.run("echo here", language="bash")
        assert (outcome.stdout, outcome.end.status) == ("here\n", ExecutionStatus.OK)


async def test_a_new_context_gets_what_was_started_ahead(ahead: World) -> None:
    async with ahead.client() as client:
        before = len(ahead.kernels())
        context_id = (await client.post("/contexts", json={"language": "bash"})).json()["id"]
        assert len(ahead.kernels()) == before
        assert (await ahead.run("y=2; echo $y", context_id=context_id)).stdout == "2\n"
        assert (await ahead.run("echo $y.", language="bash")).stdout == ".\n"
        elsewhere = await client.post("/contexts", json={"language": "bash", "cwd": "/"})
        outcome = await ahead.run("pwd", context_id=elsewhere.json()["id"])
    assert outcome.stdout == "/\n"


@pytest.mark.parametrize("seconds", [-1, "soon", None])
async def test_what_is_no_time_is_refused(warm: World, seconds: object) -> None:
    async with warm.client() as client:
        answer = await client.post("/unused", json={"seconds": seconds})
    assert answer.status_code == 400
    assert "seconds" in answer.text
