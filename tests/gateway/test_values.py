"""What values of Python cells look like to clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

from code_interpreter.protocol.executions import ClearOutput, DisplayUpdate, ResultEvent
from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def value_of(world: World, code: str) -> ResultEvent:
    outcome = await world.run(code)
    assert outcome.error is None, outcome.error
    (result,) = [each for each in outcome.results if each.is_main_result]
    return result


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("Decimal('1.50')", "1.50"),
        ("dt.date(2024, 1, 2)", "2024-01-02"),
        ("pd.Timestamp('2024-01-02 03:04')", "2024-01-02T03:04:00"),
        ("pd.Timedelta(days=1)", "1 days 00:00:00"),
        ("pd.Period('2024-01', 'M')", "2024-01"),
        ("pd.Interval(0, 1)", "(0, 1]"),
        ("1 + 2j", "(1+2j)"),
        ("{'a': [1]}", "{'a': [1]}"),
        ("None", None),
        ("float('nan')", None),
        ("float('inf')", None),
        ("pd.NA", None),
        ("pd.NaT", None),
        ("np.float32(0.5)", 0.5),
        ("np.int64(7)", 7),
        ("'text'", "text"),
        ("True", True),
    ],
)
async def test_cells_of_tables(shared: World, expression: str, told: Any) -> None:
    setup = "import pandas as pd, numpy as np, datetime as dt; from decimal import Decimal\n"
    result = await value_of(shared, f"{setup}pd.DataFrame({{'c': [{expression}]}})")
    assert result.bundle.data == {"c": [told]}
    assert result.bundle.text
    assert result.bundle.html


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ("pd.array([1, None], dtype='Int64')", [1, None]),
        ("pd.Categorical(['a', 'b'])", ["a", "b"]),
        ("pd.to_timedelta([1, 2], unit='s')", ["0 days 00:00:01", "0 days 00:00:02"]),
        ("pd.date_range('2024', periods=2, tz='UTC')", None),
        ("pd.period_range('2024-01', periods=2, freq='M')", ["2024-01", "2024-02"]),
        ("pd.arrays.SparseArray([0, 1])", [0, 1]),
        ("np.array([1+1j, 2])", ["(1+1j)", "(2+0j)"]),
    ],
)
async def test_columns_of_odd_types(shared: World, column: str, dtype: Any) -> None:
    code = f"import pandas as pd, numpy as np\npd.DataFrame({{'c': {column}}})"
    data = (await value_of(shared, code)).bundle.data
    expected = dtype or ["2024-01-01T00:00:00+00:00", "2024-01-02T00:00:00+00:00"]
    assert data == {"c": expected}


async def test_columns_of_one_name_are_both_kept(shared: World) -> None:
    code = "import pandas as pd; pd.DataFrame([[1, 2, 3]], columns=['a', 'a', 'a.1'])"
    data = (await value_of(shared, code)).bundle.data
    assert data == {"a": [1], "a.1": [2], "a.1.1": [3]}


async def test_columns_without_text_names(shared: World) -> None:
    code = "import pandas as pd; pd.DataFrame([[1, 2]], columns=[0, ('x', 'y')])"
    assert (await value_of(shared, code)).bundle.data == {"0": [1], "('x', 'y')": [2]}


async def test_large_tables_are_bounded(shared: World) -> None:
    await shared.run("import pandas as pd, numpy as np")
    code = "pd.DataFrame(np.random.rand(100_000, 10), columns=list('abcdefghij'))"
    outcome = await shared.run(code)
    (result,) = outcome.results
    assert {len(values) for values in result.bundle.data.values()} == {2000}
    assert "100000 rows" in (result.bundle.text or "")
    assert len(result.model_dump_json()) < 1_000_000


async def test_a_million_numbers_are_bounded(shared: World) -> None:
    result = await value_of(shared, "list(range(1_000_000))")
    assert result.bundle.text is not None
    assert len(result.bundle.text) < 300_000
    assert result.bundle.text.endswith("… [cut after 262144 characters]")
    assert result.bundle.json_ is None


async def test_whole_sequences_are_shown(shared: World) -> None:
    result = await value_of(shared, "list(range(3000))")
    assert result.bundle.text is not None
    assert json.loads(result.bundle.text) == list(range(3000))
    assert result.bundle.json_ == list(range(3000))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("{'a': [1, {'b': None}]}", {"a": [1, {"b": None}]}),
        ("[1, 'x', 2.5]", [1, "x", 2.5]),
        ("import numpy as np\n{1: np.arange(3), 'n': np.float64(0.5)}", {"1": [0, 1, 2], "n": 0.5}),
        ("{'s': {3}, 't': (1, 2)}", {"s": [3], "t": [1, 2]}),
        ("{'big': 2 ** 100}", {"big": 2**100}),
        ("[float('nan')]", [None]),
    ],
)
async def test_lists_and_dicts_as_json(shared: World, code: str, told: Any) -> None:
    assert (await value_of(shared, code)).bundle.json_ == told


@pytest.mark.parametrize("code", ["a = []; a.append(a); a", "[object()] * 2", "[print]"])
async def test_what_json_cannot_hold_has_text(shared: World, code: str) -> None:
    assert (await value_of(shared, code)).bundle.text


async def test_a_number_is_told_from_a_string(shared: World) -> None:
    assert (await shared.run("'1'")).text == "'1'"
    assert (await shared.run("1")).text == "1"
    assert [(await shared.execute(code))[-2]["text"] for code in ("'1'", "1")] == ["1", "1"]


async def test_rich_displays(shared: World) -> None:
    code = """
from IPython.display import HTML, JSON, SVG, Javascript, Latex, Markdown, display
for each in (HTML('<b>h</b>'), Markdown('*m*'), Latex('$l$'), JSON({'j': [None]}),
             Javascript('1'), SVG('<svg xmlns="http://www.w3.org/2000/svg"/>')):
    display(each)
display({'application/x-own': {'k': None}, 'text/plain': 'own'}, raw=True)
"""
    outcome = await shared.run(code)
    assert outcome.error is None
    bundles = [result.bundle for result in outcome.results]
    assert bundles[0].html == "<b>h</b>"
    assert bundles[1].markdown == "*m*"
    assert bundles[2].latex == "$l$"
    assert bundles[3].json_ == {"j": [None]}
    assert bundles[4].javascript == "1"
    assert (bundles[5].svg or "").startswith("<svg")
    assert bundles[6].extra == {"application/x-own": {"k": None}}
    lines = [line for line in await shared.execute(code) if line["type"] == "result"]
    assert lines[3]["json"] == {"j": [None]}
    assert lines[6]["extra"] == {"application/x-own": {"k": None}}


async def test_a_figure_and_a_value_are_two_results(shared: World) -> None:
    outcome = await shared.run("import matplotlib.pyplot as plt; plt.plot([1]); plt.show()\n5")
    assert [result.is_main_result for result in outcome.results] == [False, True]
    assert outcome.results[0].bundle.extra == {}


async def test_pictures_are_shown_when_saved(shared: World) -> None:
    code = "from PIL import Image; Image.new('RGB', (4, 4)).save('p.png')\n"
    code += "Image.new('L', (2, 2)).show()"
    outcome = await shared.run(code)
    assert outcome.error is None
    assert [bool(result.bundle.png) for result in outcome.results] == [True, True]
    assert (shared.home / "p.png").exists()


async def test_saving_a_figure_shows_it_once(shared: World) -> None:
    code = "import matplotlib.pyplot as plt; plt.plot([1]); plt.savefig('f.png'); plt.show()"
    assert len((await shared.run(code)).results) == 1


async def test_displays_are_updated_and_cleared(shared: World) -> None:
    code = """
from IPython.display import display, clear_output
handle = display('one', display_id='d')
handle.update('two')
clear_output(wait=True)
"""
    outcome = await shared.run(code)
    (update,) = outcome.of(DisplayUpdate)
    assert outcome.results[0].display_id == update.display_id == "d"
    assert update.bundle.text == "'two'"
    assert [each.wait for each in outcome.of(ClearOutput)] == [True]


async def test_widgets_have_text(shared: World) -> None:
    code = "class W:\n    def _repr_mimebundle_(self, **kw):\n"
    code += (
        "        return {'text/plain': 'W()', 'application/vnd.jupyter.widget-view+json': {}}\nW()"
    )
    assert (await value_of(shared, code)).bundle.text == "W()"
