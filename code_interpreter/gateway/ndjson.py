"""Events as the lines of ``POST /execute``, in the form that E2B's clients read.

One JSON object a line, ASCII only, so that no reader splits a character or finds a line
break in one.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json

from code_interpreter.protocol.executions import (
    EndOfExecution,
    ErrorEvent,
    ExecutionEvent,
    NumberOfExecutions,
    ResultEvent,
    Stderr,
    Stdout,
)

KEEPALIVE = b'{"type": "keepalive"}\n'


def line(event: ExecutionEvent) -> bytes | None:
    """None for events that have no form here."""
    fields = _fields(event)
    return None if fields is None else _ascii(fields) + b"\n"


def _ascii(fields: dict[str, Any]) -> bytes:
    data = to_json(fields)
    return data if data.isascii() else json.dumps(fields).encode("ascii")


def _fields(event: ExecutionEvent) -> dict[str, Any] | None:
    match event:
        case NumberOfExecutions():
            return {"type": event.type, "execution_count": event.execution_count}
        case Stdout() | Stderr():
            return {"type": event.type, "text": event.text, "timestamp": event.timestamp}
        case ResultEvent():
            return _result(event)
        case ErrorEvent():
            return {
                "type": "error",
                "name": event.name,
                "value": event.value,
                "traceback": event.traceback,
            }
        case EndOfExecution():
            return {"type": "end_of_execution"}
    return None


def _result(event: ResultEvent) -> dict[str, Any]:
    bundle = event.bundle.model_dump(by_alias=True, exclude_none=True)
    if "text" in bundle:
        bundle["text"] = without_quotes(bundle["text"])
    return {"type": "result", "is_main_result": event.is_main_result, **bundle}


def without_quotes(text: str) -> str:
    """A string's repr loses its outer quotes: ``'a'`` is shown as ``a``."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
