"""The cells of a context and their outputs as a notebook.

https://nbformat.readthedocs.io/en/latest/format_description.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from code_interpreter.gateway.bundle import FIELDS
from code_interpreter.protocol.executions import (
    Bundle,
    ClearOutput,
    DisplayUpdate,
    ErrorEvent,
    ExecutionEvent,
    NumberOfExecutions,
    ResultEvent,
    Stderr,
    Stdout,
)

_MIME_OF = {name: mime for mime, name in FIELDS.items() if not mime.startswith("e2b/")}
_JSON_MIME = re.compile(r"application/(?:json|[a-zA-Z0-9.+-]*\+json)")
_KERNELS = {
    "python": ("python3", "Python 3", "python"),
    "javascript": ("javascript", "JavaScript (Deno)", "typescript"),
    "typescript": ("javascript", "JavaScript (Deno)", "typescript"),
    "r": ("ir", "R", "R"),
}


def of_cells(
    language: str, cells: Iterable[tuple[str, str, list[ExecutionEvent]]]
) -> dict[str, Any]:
    """``cells`` are id, source and events of each, in the order in which they ran."""
    displays: dict[str, list[dict[str, Any]]] = {}
    made = [_Cell(key, source, displays).of_events(events) for key, source, events in cells]
    name, display_name, kernel_language = _KERNELS.get(language, (language, language, language))
    kernelspec = {"name": name, "display_name": display_name, "language": kernel_language}
    metadata = {"kernelspec": kernelspec, "language_info": {"name": kernel_language}}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


class _Cell:
    def __init__(self, key: str, source: str, displays: dict[str, list[dict[str, Any]]]) -> None:
        self._outputs: list[dict[str, Any]] = []
        self._displays = displays
        self._clear_next = False
        self._cell: dict[str, Any] = {
            "cell_type": "code",
            "id": key,
            "metadata": {},
            "source": source,
            "execution_count": None,
            "outputs": self._outputs,
        }

    def of_events(self, events: Iterable[ExecutionEvent]) -> dict[str, Any]:
        for event in events:
            self._take(event)
        return self._cell

    def _take(self, event: ExecutionEvent) -> None:
        match event:
            case NumberOfExecutions():
                self._cell["execution_count"] = event.execution_count
            case Stdout() | Stderr():
                self._add_text(event.type, event.text)
            case ResultEvent():
                self._add_result(event)
            case DisplayUpdate():
                for output in self._displays.get(event.display_id, ()):
                    output["data"] = mime_bundle(event.bundle)
            case ClearOutput():
                self._clear_next = event.wait
                if not event.wait:
                    self._outputs.clear()
            case ErrorEvent():
                self._add(
                    {
                        "output_type": "error",
                        "ename": event.name,
                        "evalue": event.value,
                        "traceback": (event.traceback_ansi or event.traceback).split("\n"),
                    }
                )

    def _add_text(self, name: str, text: str) -> None:
        last = self._outputs[-1] if self._outputs and not self._clear_next else {}
        if last.get("name") == name:
            last["text"] += text
        else:
            self._add({"output_type": "stream", "name": name, "text": text})

    def _add_result(self, event: ResultEvent) -> None:
        output: dict[str, Any] = {"output_type": "display_data"}
        output |= {"data": mime_bundle(event.bundle), "metadata": {}}
        if event.is_main_result:
            count = self._cell["execution_count"]
            output |= {"output_type": "execute_result", "execution_count": count}
        if event.display_id is not None:
            self._displays.setdefault(event.display_id, []).append(output)
        self._add(output)

    def _add(self, output: dict[str, Any]) -> None:
        if self._clear_next:
            self._outputs.clear()
            self._clear_next = False
        self._outputs.append(output)


def mime_bundle(bundle: Bundle) -> dict[str, Any]:
    """What a notebook may hold of it: text, and JSON where the type says so."""
    data = {
        _MIME_OF[name]: value
        for name, value in vars(bundle).items()
        if name in _MIME_OF and value is not None
    }
    for mime, value in bundle.extra.items():
        if isinstance(value, str) or _JSON_MIME.fullmatch(mime):
            data[mime] = value
    return data
