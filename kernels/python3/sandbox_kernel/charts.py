"""Figures as data, in the shape of E2B's ``e2b/chart`` and with more detail beside it.

For matplotlib (and seaborn, which draws with it), ``type`` and ``elements`` are what
`e2b_charts` says; ``detail`` holds what `layers` finds on each axes, also where the type is
``unknown``. Plotly, Altair and Bokeh figures are read from their own descriptions.
"""

from __future__ import annotations

import sys
from typing import Any

from sandbox_kernel import drawings, layers

MAX_POINTS = 5000
"""Points of one line or set that are told; of more, every n-th."""


def is_figure(value: Any) -> bool:
    return _is_matplotlib(value) or drawings.kind_of(value) is not None


def _is_matplotlib(value: Any) -> bool:
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    return figure is not None and isinstance(value, figure)


def from_figure(figure: Any) -> dict[str, Any]:
    """The figure's chart; {} if nothing is drawn on it or it cannot be read."""
    try:
        if not _is_matplotlib(figure):
            return drawings.chart(figure)
        axes = [each for each in figure.get_axes() if not layers.is_colorbar(each)]
        if not any(each.has_data() for each in axes):
            return {}
        charts = [_from_axes(each) for each in axes]
        if len(charts) == 1:
            return charts[0]
        title = figure.get_suptitle() if hasattr(figure, "get_suptitle") else ""
        return {"type": "superchart", "title": title, "elements": charts}
    except Exception:
        return {}


def _from_axes(axes: Any) -> dict[str, Any]:
    """What no extractor understands is ``unknown``; the picture is there, and no cell fails."""
    from e2b_charts.main import get_chart_from_ax

    try:
        if layers.is_3d(axes):
            raise TypeError("E2B's charts are flat")
        chart = layers.plain(get_chart_from_ax(_Thinned(axes)).model_dump(warnings=False))
    except Exception:
        chart = {"type": "unknown", "title": axes.get_title() or None, "elements": []}
    detail = layers.of_axes(axes)
    return {**chart, "detail": detail} if detail else chart


class _Thinned:
    """Axes whose lines and point sets have no more than `MAX_POINTS` points."""

    def __init__(self, axes: Any) -> None:
        self._axes = axes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._axes, name)

    def get_lines(self) -> list[Any]:
        return [_ThinnedLine(line) for line in self._axes.get_lines()]

    @property
    def collections(self) -> list[Any]:
        return [_ThinnedPoints(each) for each in self._axes.collections]


class _ThinnedLine:
    def __init__(self, line: Any) -> None:
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def get_xdata(self) -> Any:
        return layers.thinned(self._line.get_xdata(), MAX_POINTS)

    def get_ydata(self) -> Any:
        return layers.thinned(self._line.get_ydata(), MAX_POINTS)


class _ThinnedPoints:
    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def get_offsets(self) -> Any:
        return layers.thinned(self._collection.get_offsets(), MAX_POINTS)
