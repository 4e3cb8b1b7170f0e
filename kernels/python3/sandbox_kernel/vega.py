"""Altair's charts as data and as pictures, from the Vega-Lite that they describe themselves in."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from sandbox_kernel.layers import plain, thinned

MAX_POINTS = 5000
PICTURE_SCALE = 2.0
"""Pixels of the picture for one of the chart."""
MODULES = ("altair.vegalite.v6.api", "altair.vegalite.v5.api")
CLASS = "TopLevelMixin"

_NO_TICKS = {"ticks": [], "tick_labels": [], "scale": "unknown"}
_TYPES = {"bar": "bar", "line": "line", "arc": "pie"}
_TYPES |= dict.fromkeys(("point", "circle", "square"), "scatter")
_AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": sum,
    "mean": statistics.fmean,
    "average": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
}


def picture(figure: Any) -> bytes | None:
    """A PNG; None if it cannot be drawn here."""
    try:
        import vl_convert

        drawn: bytes = vl_convert.vegalite_to_png(figure.to_dict(), scale=PICTURE_SCALE)
    except Exception:
        return None
    return drawn


def chart(figure: Any) -> dict[str, Any]:
    described = figure.to_dict()
    return _read(described, described.get("datasets") or {}, described.get("data"))


def _read(part: dict[str, Any], datasets: dict[str, Any], data: Any) -> dict[str, Any]:
    data = part.get("data") or data
    for name in ("hconcat", "vconcat", "concat"):
        if name in part:
            charts = [_read(each, datasets, data) for each in part[name]]
            return {"type": "superchart", "title": _title(part) or "", "elements": charts}
    return _single(part, _rows(data, datasets))


def _title(part: dict[str, Any]) -> str | None:
    title = part.get("title")
    text = title.get("text") if isinstance(title, dict) else title
    return str(text) if text else None


def _rows(data: Any, datasets: dict[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(data, dict):
        return []
    values = data.get("values", datasets.get(str(data.get("name")), []))
    return [row for row in values if isinstance(row, dict)] if isinstance(values, list) else []


def _single(part: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    mark, encoding = part.get("mark"), part.get("encoding") or {}
    mark = mark.get("type") if isinstance(mark, dict) else mark
    detail = {"kind": "altair", "mark": mark, "encoding": encoding}
    base = {"title": _title(part), "detail": detail}
    kind = _TYPES.get(str(mark), "unknown")
    if not rows or "transform" in part or not all(map(_is_plain, encoding.values())):
        kind = "unknown"
    elements = _ELEMENTS[kind](encoding, rows) if kind in _ELEMENTS else []
    if not elements:
        return {"type": "unknown", **base, "elements": []}
    axes: dict[str, Any] = {}
    if kind != "pie":
        axes = {f"{axis}_label": _name(encoding.get(axis)) for axis in "xy"}
        axes |= {"x_unit": None, "y_unit": None}
    if kind in ("line", "scatter"):
        axes |= {f"{axis}_{key}": value for axis in "xy" for key, value in _NO_TICKS.items()}
    return {"type": kind, **base, **axes, "elements": plain(elements)}


def _is_plain(channel: Any) -> bool:
    """Its values are in the data, or an aggregate of them."""
    if not isinstance(channel, dict) or "bin" in channel or "timeUnit" in channel:
        return False
    return channel.get("aggregate") is None or channel["aggregate"] in _AGGREGATES


def _name(channel: Any) -> str | None:
    if not channel:
        return None
    told = channel.get("title") or channel.get("field")
    aggregate = channel.get("aggregate")
    return (
        told if aggregate is None or "title" in channel else f"{aggregate} of {told or 'records'}"
    )


def _series(
    encoding: dict[str, Any], rows: list[dict[str, Any]], of: str, by: str
) -> dict[str | None, dict[Any, Any]]:
    """Series (by colour) → place on channel ``by`` → value on channel ``of``."""
    value, place, colour = encoding[of], encoding[by]["field"], encoding.get("color") or {}
    gathered: dict[str | None, dict[Any, list[Any]]] = {}
    for row in rows:
        name = str(row.get(colour["field"])) if "field" in colour else None
        gathered.setdefault(name, {}).setdefault(row.get(place), []).append(
            row.get(value.get("field"))
        )
    combine = _AGGREGATES.get(value.get("aggregate"), lambda values: values[-1])
    return {
        name: {key: combine(values) for key, values in places.items()}
        for name, places in gathered.items()
    }


def _bars(encoding: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    is_value = encoding["x"].get("type") == "quantitative" or "aggregate" in encoding["x"]
    lying = is_value and encoding["y"].get("type") != "quantitative"
    series = _series(encoding, rows, *(("x", "y") if lying else ("y", "x")))
    return [
        {"label": str(label), "group": name or "Group 0", "value": value}
        for name, places in series.items()
        for label, value in places.items()
    ][:MAX_POINTS]


def _lines(encoding: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    series = _series(encoding, rows, "y", "x")
    return [
        {"label": name or f"Line {number}", "points": thinned(sorted(points.items()), MAX_POINTS)}
        for number, (name, points) in enumerate(series.items())
    ]


def _points(encoding: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if any("aggregate" in encoding[axis] for axis in "xy"):
        return _lines(encoding, rows)
    x, y = encoding["x"]["field"], encoding["y"]["field"]
    colour = encoding.get("color") or {}
    sets: dict[str, list[Any]] = {}
    for row in rows:
        name = str(row.get(colour["field"])) if "field" in colour else ""
        sets.setdefault(name, []).append((row.get(x), row.get(y)))
    return [{"label": name, "points": thinned(points, MAX_POINTS)} for name, points in sets.items()]


def _slices(encoding: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    channels = {"theta": encoding["theta"], "part": encoding["color"]}
    (parts,) = _series(channels, rows, "theta", "part").values()
    whole = sum(parts.values()) or 1.0
    return [
        {"label": str(label), "angle": round(360 * value / whole), "radius": 1.0}
        for label, value in parts.items()
    ]


_ELEMENTS: dict[str, Callable[[dict[str, Any], list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "bar": _bars,
    "line": _lines,
    "scatter": _points,
    "pie": _slices,
}
