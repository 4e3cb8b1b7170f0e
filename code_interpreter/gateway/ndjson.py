"""Events as the lines of ``POST /execute``, in the form that E2B's clients read.

One JSON object a line, ASCII only, so that no reader splits a character or finds a line
break in one.
"""

from __future__ import annotations

from typing import Any

from code_interpreter.gateway import bundle
from code_interpreter.gateway.journal import ascii_json
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
    return None if fields is None else ascii_json(fields) + b"\n"


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
    fields = bundle.to_wire(event.bundle)
    if "text" in fields:
        fields["text"] = without_quotes(fields["text"])
    own = "application/vnd.code-interpreter."
    fields["extra"] = {k: v for k, v in fields["extra"].items() if not k.startswith(own)}
    return {"type": "result", "is_main_result": event.is_main_result, **fields}


def without_quotes(text: str) -> str:
    """A string's repr loses its outer quotes: ``'a'`` is shown as ``a``."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
