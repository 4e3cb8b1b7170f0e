"""An execution's events: what each Jupyter message says, numbered, and bounded. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from code_interpreter.gateway import bundle
from code_interpreter.gateway.message import BadMessage, KernelMessage
from code_interpreter.gateway.output import BoundedStream
from code_interpreter.protocol.executions import (
    Accepted,
    Bundle,
    ClearOutput,
    DisplayUpdate,
    EndOfExecution,
    ErrorEvent,
    ExecutionEvent,
    InputRequest,
    NumberOfExecutions,
    QueueMoved,
    Receipt,
    ResultEvent,
    Stderr,
    Stdout,
)

MAX_RESULT_BYTES = 48 << 20
MAX_RESULTS_BYTES = 256 << 20
MAX_ERROR_CHARACTERS = 8 << 20
"""Of what an error says, and of its traceback; Python's kernel keeps them shorter itself."""
MAX_NOTES = 100
"""Results that are left out are told one by one so many times; then they are counted."""
_OMITTED = "omitted_bytes"
"""In a message's metadata: the kernel has left out so much itself, and says so."""


class Events:
    """Makes the events of one execution; each is numbered when it is made."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._seq = 0
        self._queue_position = 0
        self._streams = {"stdout": BoundedStream(), "stderr": BoundedStream()}
        self.paths: dict[str, str | None] = {"stdout": None, "stderr": None}
        """Where all of a stream is kept, once a part of it was left out."""
        self._last_date = ""
        self._result_bytes = 0
        self._omitted_results = 0
        self._told_results = 0
        self._closed = False
        self._counted = False
        self.error_seen = False

    def _next(self) -> dict[str, Any]:
        self._seq += 1
        return {"execution_id": self._execution_id, "seq": self._seq}

    # --- bounds ---------------------------------------------------------------------------

    @property
    def omitted_bytes(self) -> dict[str, int]:
        """Of each stream, what was not sent."""
        return {name: stream.omitted_bytes for name, stream in self._streams.items()}

    def close(self) -> None:
        """Make no more events of output; it is still counted. For want of room to keep them."""
        for stream in self._streams.values():
            stream.close()
        self._result_bytes = MAX_RESULTS_BYTES
        self._closed = True

    def _fits(self, size: int) -> bool:
        if size > MAX_RESULT_BYTES or self._result_bytes + size > MAX_RESULTS_BYTES:
            self._omitted_results += 1
            return False
        self._result_bytes += size
        return True

    # --- first and last -------------------------------------------------------------------

    def accepted(self, context_id: str, language: str, queue_position: int) -> ExecutionEvent:
        self._queue_position = queue_position
        return Accepted(
            **self._next(),
            context_id=context_id,
            language=language,
            queue_position=queue_position,
        )

    def moved(self, queue_position: int) -> list[ExecutionEvent]:
        if queue_position == self._queue_position:
            return []
        self._queue_position = queue_position
        if queue_position % _step(queue_position):
            return []
        return [QueueMoved(**self._next(), queue_position=queue_position)]

    def tails(self) -> list[ExecutionEvent]:
        """What was kept back of the streams, and how many results were left out without a
        word; the last events but the end itself."""
        untold = self._omitted_results - self._told_results
        return [
            *(
                self._text(name, text, "")
                for name, stream in self._streams.items()
                for text in stream.end(self.paths[name])
            ),
            *([self._note(f"{untold} further results left out")] if untold > 0 else ()),
        ]

    def end(self, **fields: Any) -> EndOfExecution:
        return EndOfExecution(**self._next(), **fields)

    def receipt(self, **fields: Any) -> Receipt:
        return Receipt(
            **fields,
            stdout=self._streams["stdout"].receipt(self.paths["stdout"]),
            stderr=self._streams["stderr"].receipt(self.paths["stderr"]),
            omitted_results=self._omitted_results,
        )

    # --- messages -------------------------------------------------------------------------

    def of_message(self, message: KernelMessage) -> list[ExecutionEvent]:
        """The events that a message amounts to; none for most types."""
        handler = _HANDLERS.get(message.type)
        seq = self._seq
        try:
            return [] if handler is None else handler(self, message)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            self._seq = seq  # user code can write what it likes to its kernel's sockets
            raise BadMessage(f"not what a {message.type[:40]!r} holds: {error!r:.200}") from error

    def _count(self, message: KernelMessage) -> list[ExecutionEvent]:
        number = message.content.get("execution_count")
        if self._counted or not isinstance(number, int):
            return []
        self._counted = True
        return [NumberOfExecutions(**self._next(), execution_count=number)]

    def _stream(self, message: KernelMessage) -> list[ExecutionEvent]:
        name = "stderr" if message.content.get("name") == "stderr" else "stdout"
        pieces = self._streams[name].take(str(message.content.get("text", "")))
        return [self._text(name, piece, message.date) for piece in pieces]

    def _text(self, name: str, text: str, date: str) -> ExecutionEvent:
        kind = Stdout if name == "stdout" else Stderr
        self._last_date = date or self._last_date
        return kind(**self._next(), text=text, timestamp=self._last_date)

    def _result(self, message: KernelMessage) -> list[ExecutionEvent]:
        if not self._fits(message.size):
            return self._left_out(message)
        if _OMITTED in (message.content.get("metadata") or {}):
            self._omitted_results += 1
            self._told_results += 1
        return [
            ResultEvent(
                **self._next(),
                is_main_result=message.type == "execute_result",
                display_id=_display_id(message),
                bundle=bundle.from_mime(message.content.get("data") or {}),
            )
        ]

    def _left_out(self, message: KernelMessage) -> list[ExecutionEvent]:
        """A word in a result's place."""
        if self._closed or self._told_results >= MAX_NOTES:
            return []
        self._told_results += 1
        words = (
            f"a result of {message.size} bytes left out here; one may have "
            f"{MAX_RESULT_BYTES >> 20} MiB, those of a cell {MAX_RESULTS_BYTES >> 20} MiB"
        )
        return [self._note(words, is_main_result=message.type == "execute_result")]

    def _note(self, words: str, *, is_main_result: bool = False) -> ExecutionEvent:
        return ResultEvent(
            **self._next(),
            is_main_result=is_main_result,
            display_id=None,
            bundle=Bundle(text=f"[… {words} …]"),
        )

    def _update(self, message: KernelMessage) -> list[ExecutionEvent]:
        display_id = _display_id(message)
        if display_id is None or not self._fits(message.size):
            return []
        made = bundle.from_mime(message.content.get("data") or {})
        return [DisplayUpdate(**self._next(), display_id=display_id, bundle=made)]

    def _clear(self, message: KernelMessage) -> list[ExecutionEvent]:
        return [ClearOutput(**self._next(), wait=bool(message.content.get("wait")))]

    def _error(self, message: KernelMessage) -> list[ExecutionEvent]:
        content = message.content
        name, value = str(content.get("ename", "Error")), str(content.get("evalue", ""))
        lines = content.get("traceback") or ()
        if self.error_seen:
            text = plain_traceback(lines) or f"{name}: {value}"
            return [self._text("stderr", text + "\n", message.date)]
        return self.error(name, value, lines)

    def _input(self, message: KernelMessage) -> list[ExecutionEvent]:
        content = message.content
        return [
            InputRequest(
                **self._next(),
                prompt=str(content.get("prompt", "")),
                password=bool(content.get("password")),
            )
        ]

    def error(self, name: str, value: str, lines: Iterable[str] = ()) -> list[ExecutionEvent]:
        """An execution has one error at most: the first."""
        if self.error_seen:
            return []
        self.error_seen = True
        raw, value = _head("\n".join(lines)), _head(value)
        plain = without_ansi(raw)
        return [
            ErrorEvent(
                **self._next(),
                name=name,
                value=without_ansi(value),
                traceback=plain or f"{name}: {without_ansi(value)}",
                traceback_ansi=raw if raw != plain else None,
            )
        ]


_HANDLERS = {
    "execute_input": Events._count,
    "execute_reply": Events._count,
    "stream": Events._stream,
    "execute_result": Events._result,
    "display_data": Events._result,
    "update_display_data": Events._update,
    "clear_output": Events._clear,
    "error": Events._error,
    "input_request": Events._input,
}
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")


def _head(text: str) -> str:
    """All of it, if it is not too long."""
    left_out = len(text) - MAX_ERROR_CHARACTERS
    if left_out <= 0:
        return text
    return f"{text[:MAX_ERROR_CHARACTERS]}\n[… {left_out} characters left out here …]"


def without_ansi(text: str) -> str:
    return _ANSI.sub("", text) if "\x1b" in text else text


def plain_traceback(lines: Iterable[str]) -> str:
    return without_ansi("\n".join(lines))


def _step(queue_position: int) -> int:
    """How many places farther on a waiting cell is told again: near the front, each counts."""
    return next((step for limit, step in ((10, 1), (100, 10)) if queue_position <= limit), 100)


def _display_id(message: KernelMessage) -> str | None:
    transient = message.content.get("transient")
    value = transient.get("display_id") if isinstance(transient, dict) else None
    return str(value) if value is not None else None
