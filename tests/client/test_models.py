"""Models: how programs build and read them, JSON there and back, charts of every kind."""

from __future__ import annotations

import copy
import importlib
import json
import pickle

import pytest
from pydantic import ValidationError

from code_interpreter import (
    BarChart,
    BoxAndWhiskerChart,
    Cause,
    Chart,
    ChartType,
    Context,
    Execution,
    ExecutionError,
    ExecutionStatus,
    KernelState,
    LineChart,
    Logs,
    OutputMessage,
    PieChart,
    Receipt,
    Result,
    ScaleType,
    ScatterChart,
    SuperChart,
)

peer = importlib.import_module("e2b_code_interpreter.models")
LINE = {
    "type": "line",
    "title": "Growth",
    "x_label": "Year [a]",
    "y_label": "Mass",
    "x_unit": "a",
    "y_unit": None,
    "x_ticks": [1, 2.5],
    "x_tick_labels": ["1", "2.5"],
    "x_scale": "linear",
    "y_ticks": [],
    "y_tick_labels": [],
    "y_scale": "logicle",
    "elements": [{"label": "Line 1", "points": [[1, 2], ["2020-01-01", 3.5]]}],
}
SAMPLE = Execution(
    results=[
        Result("2", is_main_result=True, json=[1], extra={"application/x": {"a": 1}}),
        Result(png="aGk=", chart={"type": "superchart", "title": "", "elements": [LINE]}),
    ],
    logs=Logs(["a\n"], ["b\n"]),
    error=ExecutionError("ValueError", "no", "Traceback …"),
    execution_count=3,
    id="e1",
    status=ExecutionStatus.ERROR,
    kernel_state=KernelState.RESET,
    cause=Cause.OOM,
    receipt=Receipt(wall_seconds=1.5, cpu_seconds=1.0),
)


def test_an_execution_survives_json() -> None:
    text = SAMPLE.model_dump_json()
    again = Execution.model_validate_json(text)
    assert again == SAMPLE
    assert again.model_dump_json() == text
    assert isinstance(again.results[1].chart, SuperChart)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_an_execution_survives_copying(copier: object) -> None:
    assert callable(copier)
    assert copier(SAMPLE) == SAMPLE


def test_classes_are_built_and_shown_as_e2bs() -> None:
    for module in (peer, None):
        kinds = module or __import__("code_interpreter")
        result = kinds.Result("1", "<b>", is_main_result=True, unknown=1)
        logs = kinds.Logs(["out"], ["err"])
        error = kinds.ExecutionError("N", "v", "t")
        execution = kinds.Execution([result], logs, error, 1)
        context = kinds.Context("c", "python", "/")
        message = kinds.OutputMessage("line", 5, True)
        seen = (
            repr(result),
            str(result),
            repr(kinds.Result(png="x", extra={"a/b": 1})),
            list(result.formats()),
            result["html"],
            repr(logs),
            logs.stderr,
            repr(error),
            repr(execution),
            str(execution),
            execution.text,
            repr(context),
            kinds.Context(context_id="c", language="r", cwd="/").language,
            kinds.Context.from_json({"id": "c", "language": "r", "cwd": "/", "x": 1}).id,
            str(message),
            repr(message),
            json.loads(execution.to_json())["results"],
            json.loads(json.loads(execution.to_json())["logs"]),
            json.loads(json.loads(execution.to_json())["error"]),
            repr(kinds.Execution()),
            kinds.Execution().text,
        )
        if module is peer:
            expected = seen
    assert list(seen) == list(expected)


def test_a_result_answers_by_name_and_by_mime_type() -> None:
    result = SAMPLE.results[0]
    assert result.formats() == ["text", "json", "application/x"]
    assert result["json"] == result.json == [1]
    assert result["application/x"] == {"a": 1}
    assert result["png"] is None
    with pytest.raises(AttributeError):
        result["nothing"]
    result = result.model_copy()
    result.json = {"b": 2}
    assert result.json_ == {"b": 2}


def test_a_notebook_shows_a_result() -> None:
    result = Result(
        "t", "<i>", "*m*", "<svg>", "cG5n", latex="$x$", json={"a": 1}, extra={"a/b": 1}
    )
    assert result._repr_html_() == "<i>"
    assert result._repr_markdown_() == "*m*"
    assert result._repr_svg_() == "<svg>"
    assert result._repr_png_() == "cG5n"
    assert result._repr_jpeg_() is None
    assert result._repr_pdf_() is None
    assert result._repr_latex_() == "$x$"
    assert result._repr_json_() == {"a": 1}
    assert result._repr_javascript_() is None
    assert result._repr_mimebundle_() == {"a/b": 1}


def test_a_context_needs_all_of_its_fields() -> None:
    with pytest.raises(ValidationError, match="language"):
        Context("c")


def test_a_line_chart() -> None:
    chart = Result(chart=LINE).chart
    assert isinstance(chart, LineChart)
    assert chart.type is ChartType.LINE
    assert chart.x_unit == "a"
    assert chart.x_scale is ScaleType.LINEAR
    assert chart.y_scale is ScaleType.UNKNOWN
    assert chart.elements[0].points == [(1, 2), ("2020-01-01", 3.5)]
    assert chart.to_dict() == LINE


@pytest.mark.parametrize(
    "data",
    [
        {"type": "heatmap", "title": None, "elements": [], "z": [[1]]},
        {"type": "line", "title": "no elements"},
        {"type": "pie", "title": 7, "elements": 7},
        {"type": None},
        {"elements": [1]},
        {"type": ["line"]},
    ],
)
def test_a_strange_chart_is_kept_whole(data: dict[str, object]) -> None:
    result = Result(chart=data)
    assert type(result.chart) is Chart
    assert {**data, "type": result.chart.to_dict()["type"]} == result.chart.to_dict()
    assert Result.model_validate_json(result.model_dump_json()).chart is not None


@pytest.mark.parametrize("data", [None, {}])
def test_no_chart_is_none(data: dict[str, object] | None) -> None:
    assert Result(chart=data).chart is None


@pytest.mark.filterwarnings("ignore:The converter attribute was deprecated")
def test_charts_that_e2bs_extractor_makes() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    extract = importlib.import_module("e2b_charts").chart_figure_to_dict

    figure, axes = plt.subplots(2, 2)
    axes[0, 0].bar(["a", "b"], [1, 2], label="Books")
    axes[0, 1].pie([9, 1], labels=["x", "y"])
    axes[1, 0].scatter([1, 2], [3, 4])
    axes[1, 1].boxplot([[1, 2, 3], [2, 3, 9]], patch_artist=True)
    data = json.loads(json.dumps(extract(figure)))
    plt.close(figure)
    chart = Result(chart=data).chart
    assert isinstance(chart, SuperChart)
    bar, pie, scatter, box = chart.elements
    assert isinstance(bar, BarChart)
    assert [(item.label, item.value) for item in bar.elements] == [("a", 1), ("b", 2)]
    assert isinstance(pie, PieChart)
    assert [item.angle for item in pie.elements] == [324, 36]
    assert isinstance(scatter, ScatterChart)
    assert scatter.elements[0].points == [(1, 3), (2, 4)]
    assert isinstance(box, BoxAndWhiskerChart)
    assert box.elements[0].median == 2
    assert Result.model_validate_json(Result(chart=data).model_dump_json()).chart == chart


def test_output_is_its_line() -> None:
    assert str(OutputMessage("a\n", "2026-01-01T00:00:00Z")) == "a\n"
