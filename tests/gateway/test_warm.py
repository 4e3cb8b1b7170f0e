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
