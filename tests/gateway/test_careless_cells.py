"""Cells that take something from their kernel, or ask from where nobody expects it."""

from __future__ import annotations

import pytest

from code_interpreter.protocol.executions import (
    EndOfExecution,
    Input,
    InputRequest,
    KernelState,
)
from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("exit", ""),
        ("exit()\nprint('not reached')", ""),
        ("quit()", ""),
        ("exit(3)", "3"),
        ("import sys; sys.exit(4)", "4"),
    ],
)
async def test_leaving_ends_the_cell_alone(shared: World, code: str, value: str) -> None:
    await shared.run("kept = 1")
    outcome = await shared.run(code)
    assert outcome.error is not None
    assert (outcome.error.name, outcome.error.value) == ("SystemExit", value)
    assert (outcome.stdout, outcome.stderr) == ("", "")
    assert outcome.end.kernel_state is KernelState.PRESERVED
    assert (await shared.run("import time; time.sleep(0.3); kept")).text == "1"


@pytest.mark.parametrize(
    "code",
    [
        "import sys; del sys.stdout, sys.stderr",
        "import sys; sys.stdout = sys.stderr = None",
        "import os; os.close(1); os.close(2)",
        "import os; os.dup2(os.open('/dev/null', os.O_WRONLY), 1); os.close(1); os.close(2)",
    ],
)
async def test_the_next_cell_prints(shared: World, code: str) -> None:
    outcome = await shared.run(code, timeout=5)
    assert (outcome.end.kernel_state, outcome.end.cause) == (KernelState.PRESERVED, None)
    after = await shared.run("import os; print('own'); os.system('echo out; echo err >&2')")
    assert (after.stdout, after.stderr) == ("own\nout\n", "err\n")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("raise ValueError('of the child')", 1, "ValueError: of the child"),
        ("import sys; sys.exit(5)", 5, ""),
        ("print('child')", 0, ""),
    ],
)
async def test_a_fork_ends_with_its_cell(shared: World, code: str, status: int, said: str) -> None:
    outcome = await shared.run(
        f"import os\npid = os.fork()\nif pid == 0: {code}\n"
        "os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None",
        timeout=10,
    )
    assert outcome.text == str(status)
    assert said in outcome.stderr


@pytest.mark.parametrize("code", ["len?", "import textwrap\ntextwrap.dedent?"])
async def test_what_a_pager_would_show_is_shown(shared: World, code: str) -> None:
    (result,) = (await shared.run(code)).results
    assert "Docstring" in str(result.bundle.text)
    assert "\x1b" not in str(result.bundle.text)


async def test_threads_ask_one_after_the_other(shared: World) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor() as pool: print(*pool.map(input, 'abc'))"
    )
    async with shared.link() as link:
        execution_id = await link.begin(code, allow_stdin=True, timeout=10)
        for _ in range(3):
            asked = await link.until(execution_id, InputRequest)
            answer = Input(execution_id=execution_id, value=2 * asked.prompt, seq=asked.seq)
            await link.send(answer)
        assert (await link.outcome(execution_id)).stdout == "aa bb cc\n"


async def test_a_thread_that_asks_does_not_outlive_its_cell(shared: World) -> None:
    """Or it would take the answer that the next cell asks for."""
    code = (
        "import threading, time\nfailed = []\n"
        "def ask():\n    try: input('one')\n    except EOFError: failed.append(1)\n"
        "threading.Thread(target=ask).start(); time.sleep(0.2)"
    )
    async with shared.link() as link:
        execution_id = await link.begin(code, allow_stdin=True)
        await link.until(execution_id, EndOfExecution)
        execution_id = await link.begin("input('two'), failed", allow_stdin=True, timeout=10)
        asked = await link.until(execution_id, InputRequest)
        assert asked.prompt == "two"
        await link.send(Input(execution_id=execution_id, value="answer", seq=asked.seq))
        assert (await link.outcome(execution_id)).text == "('answer', [1])"


@pytest.mark.parametrize("backend", ["", "inline", "notebook", "widget", "qt", "tk"])
async def test_figures_are_shown_whatever_window_is_wanted(shared: World, backend: str) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()"
    outcome = await shared.run(f"%matplotlib {backend}\n{code}")
    assert outcome.error is None
    (result,) = outcome.results
    assert result.bundle.png is not None
    assert result.bundle.chart is not None
    assert ("no display" in outcome.stderr) == (backend not in ("", "inline"))


async def test_dates_on_an_axis_are_read_without_a_warning(shared: World) -> None:
    outcome = await shared.run(
        "import pandas, matplotlib.pyplot as plt\n"
        "pandas.Series([1, 2], index=pandas.date_range('2020', periods=2)).plot(); plt.show()"
    )
    assert (outcome.error, outcome.stderr) == (None, "")
    assert outcome.results[0].bundle.chart is not None
