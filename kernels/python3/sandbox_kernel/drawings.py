"""Figures of Plotly, Altair and Bokeh, from the descriptions that these make themselves.

``type`` and ``elements`` are those of E2B's charts where a figure is one of these, else
``unknown``; ``detail`` says which library it is from, and its traces.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

from sandbox_kernel import vega
from sandbox_kernel.layers import plain, thinned

MAX_POINTS = 5000


def kind_of(value: Any) -> str | None:
    for kind, module, name in (
        *(("altair", module, vega.CLASS) for module in vega.MODULES),
        ("bokeh", "bokeh.models.plots", "Plot"),
    ):
        figure = getattr(sys.modules.get(module), name, None)
        if figure is not None and isinstance(value, figure):
            return kind
    return None


def chart(figure: Any) -> dict[str, Any]:
    """{} for a figure that cannot be read."""
    return vega.chart(figure) if kind_of(figure) == "altair" else _bokeh(figure)


# --- Plotly ------------------------------------------------------------------------------

PLOTLY_MIME = "application/vnd.plotly.v1+json"
_NO_TICKS: tuple[tuple[str, Any], ...] = (("ticks", []), ("tick_labels", []), ("scale", "unknown"))
_ARRAY_TYPES = {"f8": "d", "f4": "f", "i1": "b", "u1": "B", "i2": "h", "u2": "H"}
_ARRAY_TYPES |= {"i4": "i", "u4": "I"}


def from_plotly_bundle(figure: dict[str, Any]) -> dict[str, Any]:
    """The chart of a figure in Plotly's JSON form; {} if it cannot be read."""
    try:
        read = _plotly(figure)
    except Exception:
        return {}
    return {**read, "detail": {"kind": "plotly", **read["detail"]}}


def _plotly(figure: dict[str, Any]) -> dict[str, Any]:
    layout = figure.get("layout") or {}
    traces = [trace for trace in figure.get("data") or () if isinstance(trace, dict)]
    read: dict[str, Any] = {
        "title": _title(layout),
        "x_label": _title(layout.get("xaxis") or {}),
        "y_label": _title(layout.get("yaxis") or {}),
        "x_unit": None,
        "y_unit": None,
    }
    kinds = {_plotly_kind(trace) for trace in traces}
    kind = kinds.pop() if len(kinds) == 1 else "unknown"
    if kind in ("line", "scatter"):
        read |= {f"{axis}_{name}": value for axis in "xy" for name, value in _NO_TICKS}
    traces_told = [
        {"type": trace.get("type", "scatter"), "label": trace.get("name")} for trace in traces
    ]
    elements = _plotly_elements(kind, traces)
    return {"type": kind, **read, "elements": elements, "detail": {"traces": traces_told}}


def _title(part: dict[str, Any]) -> str | None:
    title = part.get("title")
    text = title.get("text") if isinstance(title, dict) else title
    return str(text) if text else None


def _plotly_kind(trace: dict[str, Any]) -> str:
    kind = trace.get("type", "scatter")
    if kind in ("scatter", "scattergl"):
        return "line" if "lines" in (trace.get("mode") or "lines") else "scatter"
    return {"bar": "bar", "pie": "pie", "box": "box_and_whisker"}.get(kind, "unknown")


def _plotly_elements(kind: str, traces: list[dict[str, Any]]) -> list[Any]:
    if kind in ("line", "scatter"):
        return [
            {"label": trace.get("name") or f"Line {number}", "points": _pairs(trace)}
            for number, trace in enumerate(traces)
        ]
    if kind == "bar":
        return [bar for number, trace in enumerate(traces) for bar in _plotly_bars(trace, number)]
    if kind == "pie":
        return [part for trace in traces for part in _plotly_slices(trace)]
    if kind == "box_and_whisker":
        return [box for trace in traces for box in _plotly_boxes(trace)]
    return []


def _values(values: Any) -> list[Any]:
    """Plotly packs arrays of numbers as ``{"dtype", "bdata"}``, little-endian in base64."""
    if isinstance(values, dict) and "bdata" in values:
        kind = _ARRAY_TYPES[values["dtype"].lstrip("<|=")]
        return list(memoryview(base64.b64decode(values["bdata"])).cast(kind))
    return [] if values is None else list(values)


def _pairs(trace: dict[str, Any]) -> list[Any]:
    ys = _values(trace.get("y"))
    xs = _values(trace.get("x")) or list(range(len(ys)))
    pairs = list(zip(xs, ys, strict=False))
    told: list[Any] = plain(thinned(pairs, MAX_POINTS))
    return told


def _plotly_bars(trace: dict[str, Any], number: int) -> list[dict[str, Any]]:
    labels, values = _values(trace.get("x")), _values(trace.get("y"))
    if trace.get("orientation") == "h":
        labels, values = values, labels
    group = trace.get("name") or f"Group {number}"
    return [
        {"label": str(plain(label)), "group": group, "value": plain(value)}
        for label, value in zip(labels, values, strict=False)
    ][:MAX_POINTS]


def _plotly_slices(trace: dict[str, Any]) -> list[dict[str, Any]]:
    values = [float(value) for value in _values(trace.get("values"))]
    whole = sum(values) or 1.0
    return [
        {"label": str(label), "angle": round(360 * value / whole), "radius": 1.0}
        for label, value in zip(_values(trace.get("labels")), values, strict=False)
    ]


def _plotly_boxes(trace: dict[str, Any]) -> list[dict[str, Any]]:
    import numpy

    values = numpy.asarray(_values(trace.get("y")) or _values(trace.get("x")), dtype=float)
    if not len(values):
        return []
    low, median, high = (float(each) for each in numpy.percentile(values, [25, 50, 75]))
    reach = 1.5 * (high - low)
    inside = values[(values >= low - reach) & (values <= high + reach)]
    outliers = [float(each) for each in values if not low - reach <= each <= high + reach]
    return [
        {
            "label": trace.get("name") or "",
            "min": float(inside.min()),
            "first_quartile": low,
            "median": median,
            "third_quartile": high,
            "max": float(inside.max()),
            "outliers": outliers[:MAX_POINTS],
        }
    ]


# --- Bokeh -------------------------------------------------------------------------------

_GLYPHS = {"Line": "line", "VBar": "bar", "HBar": "bar"}
_GLYPHS |= dict.fromkeys(("Scatter", "Circle"), "scatter")


def _bokeh(figure: Any) -> dict[str, Any]:
    drawn = [renderer for renderer in figure.renderers if hasattr(renderer, "glyph")]
    labels = _bokeh_labels(figure)
    kinds = {_GLYPHS.get(type(renderer.glyph).__name__, "unknown") for renderer in drawn}
    kind = kinds.pop() if len(kinds) == 1 else "unknown"
    elements = [
        element
        for number, renderer in enumerate(drawn)
        for element in _bokeh_elements(kind, renderer, labels.get(renderer.id), number)
    ]
    read: dict[str, Any] = {"title": getattr(figure.title, "text", None) or None}
    if kind != "unknown":
        read |= {"x_label": _axis_label(figure.xaxis), "y_label": _axis_label(figure.yaxis)}
        read |= {"x_unit": None, "y_unit": None}
    if kind in ("line", "scatter"):
        read |= {f"{axis}_{name}": value for axis in "xy" for name, value in _NO_TICKS}
    traces = [_bokeh_trace(renderer) for renderer in drawn]
    return {
        "type": kind,
        **read,
        "elements": plain(elements),
        "detail": {"kind": "bokeh", "traces": traces},
    }


def bokeh_page(figure: Any) -> str | None:
    """A page that draws the figure in a browser, with Bokeh's scripts from its own site."""
    try:
        from bokeh.embed import file_html
        from bokeh.resources import CDN

        return str(file_html(figure, CDN))
    except Exception:
        return None


def _axis_label(axes: Any) -> str | None:
    return next((str(axis.axis_label) for axis in axes if axis.axis_label), None)


def _bokeh_labels(figure: Any) -> dict[str, str]:
    """Renderer's id → what the legend calls it."""
    return {
        renderer.id: str(getattr(item.label, "value", None) or item.label)
        for legend in figure.legend
        for item in legend.items
        for renderer in item.renderers
    }


def _bokeh_trace(renderer: Any) -> dict[str, Any]:
    columns = renderer.data_source.data.items()
    return {
        "type": type(renderer.glyph).__name__,
        "columns": {
            str(name): plain(list(thinned(values, MAX_POINTS))) for name, values in columns
        },
    }


def _bokeh_elements(kind: str, renderer: Any, label: str | None, number: int) -> list[Any]:
    def column(name: str) -> list[Any]:
        given = getattr(renderer.glyph, name)
        field = getattr(given, "field", given)
        return list(renderer.data_source.data[field])

    if kind in ("line", "scatter"):
        pairs = list(zip(column("x"), column("y"), strict=False))
        return [{"label": label or f"Line {number}", "points": thinned(pairs, MAX_POINTS)}]
    if kind == "bar":
        standing = type(renderer.glyph).__name__ == "VBar"
        places, values = column("x" if standing else "y"), column("top" if standing else "right")
        return [
            {"label": str(plain(place)), "group": label or f"Group {number}", "value": value}
            for place, value in zip(places, values, strict=False)
        ][:MAX_POINTS]
    return []
