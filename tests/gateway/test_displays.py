"""Displays that are updated and output that is cleared, as every kind of client sees them."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from code_interpreter.collector import Callbacks, Collector
from code_interpreter.models import Execution
from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMPORTS = "from IPython.display import clear_output, display, update_display\n"
CELLS: dict[str, tuple[str, list[str], str]] = {
    "an update replaces": (
        "h = display('old', display_id=True); display('between'); h.update('new'); None",
        ["new", "between"],
        "",
    ),
    "an update replaces every display of that id": (
        "display(1, display_id='x'); display(2, display_id='x'); update_display(3, display_id='x')",
        ["3", "3"],
        "",
    ),
    "an update of what is not there shows nothing": ("update_display(3, display_id='y')", [], ""),
    "the value stays last": (
        "h = display(1, display_id='z'); h.update(2); 'v'",
        ["2", "v"],
        "",
    ),
    "cleared at once": ("display(1); print('a'); clear_output(); print('b'); 2", ["2"], "b\n"),
    "cleared with nothing after it": ("print('a'); display(1); clear_output()", [], ""),
    "to be cleared, but nothing comes": (
        "print('a'); display(1); clear_output(wait=True)",
        ["1"],
        "a\n",
    ),
    "cleared by the next display": (
        "for n in range(5): clear_output(wait=True); print(n); display(n)",
        ["4"],
        "4\n",
    ),
    "cleared again and again": ("for n in range(5): print(n); clear_output()", [], ""),
    "an update after clearing": (
        "h = display(1, display_id='w'); clear_output(); h.update(2); print('x')",
        [],
        "x\n",
    ),
}
BEFORE_THE_CLEARING = {
    "cleared at once",
    "cleared with nothing after it",
    "cleared by the next display",
    "cleared again and again",
}
"""Here something was sent before the cell said that it is to be taken back."""


def shown(execution: Execution) -> tuple[list[str | None], str]:
    return [result.text for result in execution.results], "".join(execution.logs.stdout)


async def over_http(world: World, code: str) -> tuple[list[str | None], str]:
    """What E2B's clients put together: they only add."""
    collector = Collector(Callbacks())
    for line in await world.execute(code):
        collector.take_line(line)
    return shown(collector.execution)


@pytest.mark.parametrize("name", CELLS)
async def test_our_client_shows_what_a_notebook_shows(shared: World, name: str) -> None:
    code, results, stdout = CELLS[name]
    collector = Collector(Callbacks())
    for event in (await shared.run(IMPORTS + code)).events:
        collector.take(event)
    assert shown(collector.execution) == (results, stdout)


@pytest.mark.parametrize("name", sorted(CELLS.keys() - BEFORE_THE_CLEARING))
async def test_e2bs_clients_are_shown_the_same(shared: World, name: str) -> None:
    code, results, stdout = CELLS[name]
    assert await over_http(shared, IMPORTS + code) == (results, stdout)


async def test_only_what_was_sent_before_the_first_clearing_stays(shared: World) -> None:
    """It cannot be taken back from those clients."""
    code = f"{IMPORTS}print('sent')\nfor n in range(9): clear_output(wait=True); print(n)"
    assert await over_http(shared, code) == ([], "sent\n8\n")


async def test_an_error_clears_too_and_is_told(shared: World) -> None:
    code = f"{IMPORTS}clear_output()\nprint('a'); clear_output(wait=True); 1/0"
    lines = await shared.execute(code)
    assert [line["type"] for line in lines] == [
        "number_of_executions",
        "error",
        "end_of_execution",
    ]


async def test_displays_without_an_id_are_not_held_back(shared: World) -> None:
    code = "import time\nfor n in range(3):\n    display(n); time.sleep(0.4)"
    times: list[float] = []
    async with shared.client() as client:
        request = client.build_request("POST", "/execute", json={"code": code})
        response = await client.send(request, stream=True)
        async for line in response.aiter_lines():
            if '"result"' in line:
                times.append(time.monotonic())
        await response.aclose()
    assert all(later - earlier > 0.2 for earlier, later in itertools.pairwise(times))


async def test_progress_by_clearing_costs_one_line_and_keeps_the_connection(shared: World) -> None:
    """Nothing is sent for a long time, so the connection is kept alive."""
    code = f"""{IMPORTS}
import time
for n in range(60):
    clear_output(wait=True); print(n); time.sleep(0.1)
"""
    lines: list[dict[str, Any]] = await shared.execute(code)
    assert [line["text"] for line in lines if line["type"] == "stdout"] == ["59\n"]
    assert [line for line in lines if line["type"] == "keepalive"]
