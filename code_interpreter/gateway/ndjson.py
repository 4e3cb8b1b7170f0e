"""Events as the lines of ``POST /execute``, in the form that E2B's clients read.

One JSON object a line, ASCII only, so that no reader splits a character or finds a line
break in one.

These clients add what comes and know no way to take it back. So what the cell may still change
waits for its end, and then goes out as a notebook would show it: from a display with a
``display_id`` on, results; from a ``clear_output`` on, everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from code_interpreter.gateway import bundle
from code_interpreter.gateway.frames import ascii_json
from code_interpreter.protocol.executions import (
    ClearOutput,
    DisplayUpdate,
    EndOfExecution,
    ErrorEvent,
    ExecutionEvent,
    NumberOfExecutions,
    ResultEvent,
    Stderr,
    Stdout,
)

KEEPALIVE = b'{"type": "keepalive"}\n'


class View:
    """What a client is told of an execution, event by event."""

    def __init__(self, read: Callable[[int], ExecutionEvent]) -> None:
        """``read`` gives an event again by its number: those that wait are not kept here."""
        self._read = read
        self._held: list[int] = []
        self._updates: dict[str, int] = {}
        self._holds_results = False
        self._holds_all = False
        self._clear_on_next = False

    def take(self, event: ExecutionEvent) -> Iterator[bytes]:
        """The lines to send now."""
        if isinstance(event, EndOfExecution):
            yield from self._release()
        if not self._hold(event):
            yield from _lines(event)

    def _hold(self, event: ExecutionEvent) -> bool:
        """Does it wait for the end?"""
        match event:
            case ResultEvent():
                self._clear_if_due()
                self._holds_results |= event.display_id is not None
                if self._holds_results:
                    self._held.append(event.seq)
                    return True
            case Stdout() | Stderr():
                self._clear_if_due()
                if self._holds_all:
                    self._held.append(event.seq)
                    return True
            case DisplayUpdate():
                self._updates[event.display_id] = event.seq
            case ClearOutput():
                self._holds_results = self._holds_all = self._clear_on_next = True
                if not event.wait:
                    self._clear_if_due()
            case ErrorEvent():
                self._clear_if_due()
        return False

    def _clear_if_due(self) -> None:
        if self._clear_on_next:
            self._clear_on_next = False
            self._held.clear()

    def _release(self) -> Iterator[bytes]:
        for seq in self._held:
            yield from _lines(self._latest(self._read(seq)))

    def _latest(self, event: ExecutionEvent) -> ExecutionEvent:
        if not isinstance(event, ResultEvent) or event.display_id not in self._updates:
            return event
        update = self._read(self._updates[event.display_id])
        assert isinstance(update, DisplayUpdate)
        return event.model_copy(update={"bundle": update.bundle})


def _lines(event: ExecutionEvent) -> Iterator[bytes]:
    """Nothing for events that have no form here."""
    fields = _fields(event)
    if fields is not None:
        yield ascii_json(fields) + b"\n"


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
