"""Progress bars of the real tqdm, as they come and as they stay."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from code_interpreter import OutputMessage, Sandbox
from tests.service import Service


@pytest.fixture(scope="module")
def sandbox(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(**service.options)
    yield made
    made.kill()


def test_a_bar_is_seen_while_it_moves_and_stays_as_a_terminal_shows_it(sandbox: Sandbox) -> None:
    heard: list[tuple[float, OutputMessage]] = []
    code = (
        "import sys, time, tqdm\n"
        "for n in tqdm.tqdm(range(20), desc='fetch', mininterval=0.02): time.sleep(0.05)\n"
        "print('done')"
    )
    execution = sandbox.run_code(
        code, on_stderr=lambda said: heard.append((time.monotonic(), said))
    )
    assert execution.error is None
    ended = time.monotonic()
    assert "".join(execution.logs.stdout) == "done\n"
    drawn = "".join(execution.logs.stderr)
    assert drawn == "".join(said.line for _, said in heard)
    states = [state for state in drawn.split("\r") if state.strip()]
    assert states[0].startswith("fetch:   0%|")
    assert states[-1].startswith("fetch: 100%|██████████| 20/20 [")
    assert states[-1].endswith("\n")
    assert len(states) >= 5, "each state is told, none is merged away"
    assert heard[0][0] < ended - 0.5, "it moves while the cell runs"
    stamps = [said.timestamp for _, said in heard]
    assert stamps == sorted(stamps)


def test_a_bar_that_draws_all_the_time_is_told_state_by_state(sandbox: Sandbox) -> None:
    code = "import tqdm\nfor n in tqdm.tqdm(range(5_000), mininterval=0, miniters=1): pass"
    execution = sandbox.run_code(code)
    assert execution.error is None
    drawn = "".join(execution.logs.stderr)
    states = drawn.count("\r")
    assert states > 5_000
    assert len(execution.logs.stderr) <= states + 1, "a state, and the last line's end"
    assert execution.receipt is not None
    assert execution.receipt.stderr.total_bytes == len(drawn.encode())
    assert execution.receipt.stderr.omitted_bytes == 0
    assert drawn.startswith("\r  0%|")
    assert "100%|██████████| 5000/5000" in drawn[-200:]


def test_bars_that_are_widgets_have_their_last_state_as_text(sandbox: Sandbox) -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from tqdm.notebook import tqdm\n"
        "for n in tqdm(range(3), desc='load'): pass\n"
        "from tqdm.auto import tqdm\n"
        "for n in tqdm(range(4), desc='auto'): pass\n"
        "import ipywidgets\n"
        "own = ipywidgets.IntProgress(value=1, max=5)\n"
        "display(own)\n"
        "own.value = 5"
    )
    updates: list[str] = []
    execution = sandbox.run_code(code, on_update=lambda result: updates.append(str(result.text)))
    assert execution.error is None
    texts = [str(result.text) for result in execution.results]
    assert len(texts) == 3
    assert texts == updates
    assert texts[0].startswith("load: 100%|##########| 3/3 [")
    assert texts[1].startswith("auto: 100%|##########| 4/4 [")
    assert texts[2] == "IntProgress(value=5, max=5)"
