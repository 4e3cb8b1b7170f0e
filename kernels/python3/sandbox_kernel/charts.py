"""matplotlib figures as data, in the shape of E2B's ``e2b/chart``."""

from __future__ import annotations

import sys
from typing import Any


def is_figure(value: Any) -> bool:
    module = sys.modules.get("matplotlib.figure")
    figure = getattr(module, "Figure", None)
    return figure is not None and isinstance(value, figure)


def from_figure(figure: Any) -> dict[str, Any]:
    """The figure's chart; {} if nothing is drawn on it or it cannot be read."""
    try:
        from e2b_charts import chart_figure_to_dict

        return _plain(chart_figure_to_dict(figure))
    except Exception:
        return {}


def _plain(value: Any) -> Any:
    """Numbers of numpy and members of enums as what JSON knows."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str(getattr(value, "value", value))
    if hasattr(value, "item"):
        return value.item()
    return value
