"""The picture of what `tests.benchmarks.density` measures: memory and latency by number.

``python -m tests.benchmarks.density_plot JSON PNG`` draws it again from the measured figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TARGET_MIB = 30
_INK, _FAINT = "#2b2d33", "#8a8f99"
_BLUE, _ORANGE, _GREEN, _PURPLE = "#2563a8", "#d9772b", "#2c8a5b", "#7a4fb0"
_Points = Sequence[Mapping[str, Any]]


def plot(points: _Points, target: Path) -> None:
    """Fields are those of `density.Point`."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with mpl.rc_context({"font.size": 10, "text.color": _INK, "axes.labelcolor": _INK}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
        _memory(left, points)
        _latency(right, points)
        for axes in (left, right):
            _dress(axes, points)
        figure.savefig(target, dpi=130)


def _memory(axes: Any, points: _Points) -> None:
    label = "available memory of the machine, each further"
    _line(axes, points, "available_mib", _BLUE, label)
    _line(axes, points, "pss_mib", _ORANGE, "PSS of its processes", lower=True)
    axes.axhline(TARGET_MIB, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"target {TARGET_MIB} MiB",
        (1, TARGET_MIB),
        xytext=(0, 3),
        textcoords="offset points",
        color=_FAINT,
        fontsize=9,
    )
    axes.set_ylim(0, None)
    axes.set_ylabel("MiB a sandbox")
    axes.set_title("Memory of an idle sandbox with a live kernel", loc="left", fontsize=11)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _latency(axes: Any, points: _Points) -> None:
    for name, colour, label in (
        ("create", _GREEN, "create to first result"),
        ("run", _PURPLE, 'run_code("1 + 1")'),
    ):
        _line(axes, points, f"{name}_p50", colour, f"{label}, p50")
        numbers = [point["sandboxes"] for point in points]
        low = [point[f"{name}_p50"] for point in points]
        high = [point[f"{name}_p95"] for point in points]
        axes.fill_between(
            numbers, low, high, color=colour, alpha=0.15, linewidth=0, label="p50 to p95"
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("milliseconds")
    axes.set_title("Latency while the others are idle", loc="left", fontsize=11)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def _line(
    axes: Any, points: _Points, name: str, colour: str, label: str, *, lower: bool = False
) -> None:
    known = [point for point in points if point[name] is not None]
    if not known:
        return
    numbers = [point["sandboxes"] for point in known]
    values = [point[name] for point in known]
    axes.plot(numbers, values, "o-", color=colour, linewidth=2, markersize=5, label=label)
    axes.annotate(
        f"{values[-1]:.3g}",
        (numbers[-1], values[-1]),
        xytext=(8, -8 if lower else 3),
        textcoords="offset points",
        color=colour,
        fontweight="bold",
        va="center",
    )


def _dress(axes: Any, points: _Points) -> None:
    numbers = [int(point["sandboxes"]) for point in points]
    axes.set_xscale("log")
    axes.set_xticks(numbers, labels=[str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlim(min(numbers) * 0.85, max(numbers) * 1.6)
    axes.set_xlabel("idle sandboxes on the machine")
    axes.grid(axis="y", color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)
    axes.tick_params(colors=_INK, length=3)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
