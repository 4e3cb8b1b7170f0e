"""Figures as data."""

from __future__ import annotations

from typing import Any

import pytest
from e2b_code_interpreter.charts import _deserialize_chart  # type: ignore[import-untyped]

from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = "import matplotlib.pyplot as plt, numpy as np\n"


async def chart_of(world: World, code: str) -> dict[str, Any]:
    outcome = await world.run(START + code)
    assert outcome.error is None, outcome.error
    assert outcome.stderr == ""
    (result,) = outcome.results
    assert result.bundle.png
    assert result.bundle.extra == {}
    chart = result.bundle.chart
    assert isinstance(chart, dict)
    assert _deserialize_chart(chart) is not None
    return chart


async def test_lines(shared: World) -> None:
    code = "plt.plot([1, 2], [3, 4], label='a'); plt.plot([1, 2], [5, 6])\n"
    code += "plt.xlabel('t (s)'); plt.title('T'); plt.show()"
    chart = await chart_of(shared, code)
    assert (chart["type"], chart["title"], chart["x_unit"]) == ("line", "T", "s")
    assert chart["elements"][0] == {"label": "a", "points": [[1, 3], [2, 4]]}
    assert chart["elements"][1]["label"] == "Line 1"
    assert [layer["type"] for layer in chart["detail"]["layers"]] == ["line", "line"]


async def test_a_line_of_a_million_points_is_thinned(shared: World) -> None:
    chart = await chart_of(shared, "plt.plot(np.arange(1_000_000)); plt.show()")
    points = chart["elements"][0]["points"]
    assert 4000 < len(points) <= 5000
    assert points[-1] == [999_999, 999_999]
    assert chart["detail"]["layers"][0]["point_count"] == 1_000_000


async def test_bars(shared: World) -> None:
    code = "plt.bar(['A', 'B'], [100, 200], label='Books'); plt.show()"
    chart = await chart_of(shared, code)
    assert chart["type"] == "bar"
    assert chart["elements"] == [
        {"label": "A", "group": "Books", "value": 100},
        {"label": "B", "group": "Books", "value": 200},
    ]
    assert chart["detail"]["kind"] == "bars"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("plt.bar([0, 1], [1, 2], bottom=[3, 4]); plt.bar([0, 1], [3, 4])", "stacked_bars"),
        ("plt.bar([0, 1], [1, 2], .3); plt.bar([.4, 1.4], [3, 4], .3)", "grouped_bars"),
        ("plt.hist([1, 2, 2, 3], bins=3)", "histogram"),
        ("plt.fill_between([0, 1, 2], [1, 2, 3])", "area"),
        ("plt.stackplot([0, 1, 2], [1, 2, 3], [1, 1, 1])", "area"),
        ("plt.imshow(np.eye(3))", "heatmap"),
        ("plt.pcolormesh(np.eye(3))", "heatmap"),
        ("plt.errorbar([1, 2], [3, 4], yerr=.5)", "error_bars"),
        ("plt.scatter([1, 2], [3, 4], c=[5, 6])", "points"),
        ("plt.pie([1, 3], labels=['a', 'b'])", "pie"),
        ("plt.imshow(np.zeros((4, 5, 3)))", "image"),
        ("plt.bar([0, 1], [1, 2]); plt.plot([0, 1], [2, 1])", "mixed"),
    ],
)
async def test_kinds(shared: World, code: str, kind: str) -> None:
    assert (await chart_of(shared, f"{code}; plt.show()"))["detail"]["kind"] == kind


async def test_layers_hold_the_data(shared: World) -> None:
    code = """
plt.hist([1, 2, 2, 4], bins=[0, 2, 4, 6], label='h')
plt.errorbar([1, 2], [3, 4], yerr=[.5, 1], label='e')
plt.fill_between([0, 1, 2], [1, 2, 3], [0, 1, 1], label='f')
plt.show()
"""
    layers = (await chart_of(shared, code))["detail"]["layers"]
    by_label = {layer["label"]: layer for layer in layers}
    assert by_label["h"]["edges"] == [0, 2, 4, 6]
    assert by_label["h"]["counts"] == [1, 2, 1]
    assert by_label["e"]["points"] == [[1, 3], [2, 4]]
    assert by_label["e"]["y_errors"] == [[2.5, 3.5], [3, 5]]
    assert (by_label["f"]["lower"], by_label["f"]["upper"]) == ([0, 1, 1], [1, 2, 3])


async def test_heatmaps_hold_their_values(shared: World) -> None:
    chart = await chart_of(shared, "plt.pcolormesh([[1, 2], [3, 4]]); plt.colorbar(); plt.show()")
    assert chart["type"] == "unknown"
    (layer,) = chart["detail"]["layers"]
    assert layer["values"] == [[1, 2], [3, 4]]


async def test_subplots_and_twins(shared: World) -> None:
    code = "fig, (a, b) = plt.subplots(1, 2); a.plot([1]); b.bar(['x', 'y'], [1, 2])\n"
    code += "b.twinx().plot([3, 4]); fig.suptitle('S'); plt.show()"
    chart = await chart_of(shared, code)
    assert (chart["type"], chart["title"]) == ("superchart", "S")
    assert [each["type"] for each in chart["elements"]] == ["line", "bar", "line"]
    assert [each["detail"]["twin"] for each in chart["elements"]] == [False, False, True]


async def test_three_dimensions_are_unknown(shared: World) -> None:
    code = "plt.figure().add_subplot(projection='3d').plot([1, 2], [1, 2], [1, 2]); plt.show()"
    chart = await chart_of(shared, code)
    assert (chart["type"], chart["elements"], chart["detail"]["kind"]) == ("unknown", [], "3d")


async def test_nothing_drawn_is_no_chart(shared: World) -> None:
    assert (await shared.run("import matplotlib.pyplot as plt; plt.figure()")).error is None
    outcome = await shared.run("plt.figure().add_subplot(); plt.show()")
    assert [result.bundle.chart for result in outcome.results] == [{}]


async def test_boxes(shared: World) -> None:
    code = (
        "plt.boxplot([[78, 84, 85, 88, 92], [75, 79, 82, 86, 95]], patch_artist=True); plt.show()"
    )
    chart = await chart_of(shared, code)
    assert chart["type"] == "box_and_whisker"
    assert [each["median"] for each in chart["elements"]] == [85, 82]


@pytest.mark.parametrize(
    "code",
    [
        "import seaborn; seaborn.heatmap([[1, 2], [3, 4]]); plt.show()",
        "import seaborn; seaborn.histplot([1, 2, 2, 3]); plt.show()",
        "plt.subplot(projection='polar').plot([1, 2]); plt.show()",
        "plt.quiver([0], [0], [1], [1]); plt.show()",
        "plt.contourf(np.eye(4)); plt.show()",
        "import pandas; pandas.Series([1, 2]).plot(); plt.show()",
        "plt.plot(np.array(['2024-01-01', '2024-01-02'], dtype='datetime64')); plt.show()",
        "plt.plot([float('nan'), 1]); plt.show()",
    ],
)
async def test_no_figure_fails(shared: World, code: str) -> None:
    assert (await chart_of(shared, code))["type"]


@pytest.mark.parametrize(
    ("code", "kind", "elements"),
    [
        (
            "go.Figure([go.Bar(x=['A', 'B'], y=[1, 2], name='g')], layout={'title': 'T'})",
            "bar",
            [{"label": "A", "group": "g", "value": 1}, {"label": "B", "group": "g", "value": 2}],
        ),
        (
            "go.Figure([go.Scatter(y=np.array([1.5, 2.5]), name='l')], layout={'title': 'T'})",
            "line",
            [{"label": "l", "points": [[0, 1.5], [1, 2.5]]}],
        ),
        (
            "go.Figure([go.Pie(labels=['a', 'b'], values=[1, 3])], layout={'title': 'T'})",
            "pie",
            [
                {"label": "a", "angle": 90, "radius": 1},
                {"label": "b", "angle": 270, "radius": 1},
            ],
        ),
    ],
)
async def test_plotly(shared: World, code: str, kind: str, elements: list[Any]) -> None:
    outcome = await shared.run(f"import plotly.graph_objects as go, numpy as np\n{code}")
    assert outcome.error is None, outcome.error
    result = outcome.results[-1]
    chart = result.bundle.chart
    assert (chart["type"], chart["title"], chart["detail"]["kind"]) == (kind, "T", "plotly")
    assert chart["elements"] == elements
    assert _deserialize_chart(chart) is not None
    assert result.bundle.html


ALTAIR = """
import altair as alt, pandas as pd
d = pd.DataFrame({'a': ['x', 'y', 'x'], 'b': [1, 2, 5], 'c': ['p', 'p', 'q']})
"""
BOKEH = "from bokeh.plotting import figure\np = figure(title='T', x_axis_label='X')\n"


@pytest.mark.parametrize(
    ("code", "kind", "elements"),
    [
        (
            "alt.Chart(d[:2]).mark_bar().encode(x='a', y='b')",
            "bar",
            [
                {"label": "x", "group": "Group 0", "value": 1},
                {"label": "y", "group": "Group 0", "value": 2},
            ],
        ),
        (
            "alt.Chart(d).mark_bar().encode(y='a', x='sum(b)')",
            "bar",
            [
                {"label": "x", "group": "Group 0", "value": 6},
                {"label": "y", "group": "Group 0", "value": 2},
            ],
        ),
        (
            "alt.Chart(d[:2]).mark_line().encode(x='b', y='b', color='c')",
            "line",
            [{"label": "p", "points": [[1, 1], [2, 2]]}],
        ),
        (
            "alt.Chart(d).mark_circle().encode(x='b', y='b', color='c')",
            "scatter",
            [{"label": "p", "points": [[1, 1], [2, 2]]}, {"label": "q", "points": [[5, 5]]}],
        ),
        (
            "alt.Chart(d[:2]).mark_arc().encode(theta='b', color='a')",
            "pie",
            [
                {"label": "x", "angle": 120, "radius": 1},
                {"label": "y", "angle": 240, "radius": 1},
            ],
        ),
        ("alt.Chart(d).mark_bar().encode(x=alt.X('b', bin=True), y='count()')", "unknown", []),
        ("alt.Chart(d).mark_area().encode(x='b', y='b')", "unknown", []),
    ],
)
async def test_altair(shared: World, code: str, kind: str, elements: list[Any]) -> None:
    outcome = await shared.run(ALTAIR + code)
    assert outcome.error is None, outcome.error
    bundle = outcome.results[-1].bundle
    assert (bundle.chart["type"], bundle.chart["elements"]) == (kind, elements)
    assert bundle.chart["detail"]["kind"] == "altair"
    assert _deserialize_chart(bundle.chart) is not None
    assert (bundle.png or "").startswith("iVBORw0KGgo")
    assert bundle.html


async def test_altair_side_by_side(shared: World) -> None:
    one = "alt.Chart(d).mark_bar().encode(x='a', y='b')"
    outcome = await shared.run(f"{ALTAIR}{one} | {one}")
    chart = outcome.results[-1].bundle.chart
    assert chart["type"] == "superchart"
    assert [each["type"] for each in chart["elements"]] == ["bar", "bar"]
    assert _deserialize_chart(chart) is not None


@pytest.mark.parametrize(
    ("code", "kind", "elements"),
    [
        (
            "p.line([1, 2], [3, 4], legend_label='l'); p",
            "line",
            [{"label": "l", "points": [[1, 3], [2, 4]]}],
        ),
        ("p.scatter([1], [3]); p", "scatter", [{"label": "Line 0", "points": [[1, 3]]}]),
        (
            "p.vbar(x=[1, 2], top=[3, 4]); p",
            "bar",
            [
                {"label": "1", "group": "Group 0", "value": 3},
                {"label": "2", "group": "Group 0", "value": 4},
            ],
        ),
        ("p.line([1], [2]); p.scatter([1], [2]); p", "unknown", []),
        ("p.quad(top=[1], bottom=[0], left=[0], right=[1]); p", "unknown", []),
    ],
)
async def test_bokeh(shared: World, code: str, kind: str, elements: list[Any]) -> None:
    outcome = await shared.run(BOKEH + code)
    assert outcome.error is None, outcome.error
    bundle = outcome.results[-1].bundle
    assert (bundle.chart["type"], bundle.chart["title"]) == (kind, "T")
    assert bundle.chart["elements"] == elements
    assert bundle.chart["detail"]["kind"] == "bokeh"
    assert _deserialize_chart(bundle.chart) is not None
    assert "<script" in (bundle.html or "")
