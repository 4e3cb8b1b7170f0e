"""Tracebacks: quick, and still what IPython makes of them."""

from __future__ import annotations

import pytest

from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAILURES = {
    "in the cell": "1 / 0",
    "in a function of an earlier cell": "earlier(0)",
    "in a library": "import json; json.loads('{')",
    "with a cause": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError from e",
    "in code made from text": "exec('def g():\\n    1 / 0\\ng()')",
    "deep down": "def deep(n): return deep(n - 1) if n else 1 / 0\ndeep(30)",
}
AGAIN = """
import inspect, sys
inspect.modulesbyfile.clear(); inspect._filesbymodname.clear()
make = get_ipython().InteractiveTB.text
print(make(sys.last_type, sys.last_value, sys.last_traceback, tb_offset=1))
"""


@pytest.mark.parametrize("name", FAILURES)
async def test_it_is_the_one_that_ipython_makes(shared: World, name: str) -> None:
    """Made once more, with nothing said of which files belong to no module."""
    await shared.run("def earlier(n):\n    return 1 / n")
    outcome = await shared.run(FAILURES[name])
    assert outcome.error is not None
    again = await shared.run(AGAIN)
    assert outcome.error.traceback.rstrip() == again.stdout.rstrip()
    assert "Error" in outcome.error.traceback.splitlines()[-1]


async def test_the_source_of_what_cells_define_is_found(shared: World) -> None:
    await shared.run("def here():\n    return 1\nclass There: pass")
    outcome = await shared.run(
        "import inspect\n"
        "print(inspect.getsource(here), inspect.getmodule(here), inspect.getmodule(There))"
    )
    assert "return 1" in outcome.stdout
    assert outcome.stdout.count("<module '__main__'>") == 2


@pytest.mark.slow  # IPython takes seconds for it
async def test_the_session_can_still_be_written_as_a_notebook(shared: World) -> None:
    await shared.run("print('printed'); 40 + 2")
    await shared.run("1 / 0")
    outcome = await shared.run("%notebook session.ipynb")
    assert outcome.error is None
    written = await shared.run("import json; json.load(open('session.ipynb'))['cells'][-2]")
    assert written.text is not None
    assert "40 + 2" in written.text
