"""Widgets that change after they were shown, where nobody draws them.

A widget's state goes to a page that draws it. A client without one has the text that the
widget had when it was shown, so the text is told again at the end of the cell: a bar of
``tqdm.auto`` would stay at 0 % for ever.
"""

from __future__ import annotations

import sys
from typing import Any

VIEW_MIME = "application/vnd.jupyter.widget-view+json"
MOST = 100
"""Of one cell; further ones keep the text that they had."""


class ShownWidgets:
    """Those that the cell has shown, with the text that was told."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[Any, str]] = {}

    def note(self, data: dict[str, Any], transient: dict[str, Any]) -> dict[str, Any]:
        """What ``transient`` has to be, so that the display can be updated."""
        view = data.get(VIEW_MIME)
        widget = _find(str(view.get("model_id"))) if isinstance(view, dict) else None
        if widget is None or len(self._shown) >= MOST:
            return transient
        display_id = transient.get("display_id") or widget.model_id
        self._shown[display_id] = (widget, str(data.get("text/plain")))
        return {**transient, "display_id": display_id}

    def changed(self, formatter: Any) -> list[tuple[str, dict[str, Any]]]:
        """Displays whose text is another now, with their new content; then none is known."""
        shown, self._shown = self._shown, {}
        now = [(key, formatter.format(widget)[0], text) for key, (widget, text) in shown.items()]
        return [(key, data) for key, data, text in now if data and data.get("text/plain") != text]


def _find(model_id: str) -> Any:
    """The widget of this id; None for one that is of no ipywidgets."""
    module: Any = sys.modules.get("ipywidgets.widgets.widget")
    return getattr(module, "_instances", {}).get(model_id)
