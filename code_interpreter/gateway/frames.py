"""Events as the frames that go to clients, and back. No I/O."""

from __future__ import annotations

import codecs
import json
from typing import Any

import orjson

from code_interpreter.gateway import bundle
from code_interpreter.protocol.executions import (
    DisplayUpdate,
    ExecutionEvent,
    Refused,
    ResultEvent,
    gateway_message,
)

LONG = 1 << 16
"""Characters of a text that is worth sparing."""
_EVENT_BYTES = 1500
"""What an event takes in memory besides its text."""


class Entry:
    """An event and its frame; each is made from the other when somebody asks for it."""

    __slots__ = ("_event", "_frame", "_verbatim", "size")

    def __init__(
        self, event: ExecutionEvent | None, frame: bytes | None = None, *, verbatim: bool = False
    ) -> None:
        """``verbatim``: see `frame_of`."""
        self._event = event
        self._verbatim = verbatim
        self._frame = frame
        self.size = 0 if event is None else _size(event)

    @property
    def event(self) -> ExecutionEvent:
        if self._event is None:
            event = gateway_message.validate_json(self.frame)
            assert not isinstance(event, Refused)
            self._event = event
        return self._event

    @property
    def frame(self) -> bytes:
        """The text of the WebSocket frame."""
        if self._frame is None:
            assert self._event is not None
            self._frame = frame_of(self._event, verbatim=self._verbatim)
        return self._frame


def frame_of(event: ExecutionEvent, *, verbatim: bool = False) -> bytes:
    """What `executions.encode` gives, many times as fast for large events.

    ``verbatim``: the texts of its bundle hold nothing that JSON would escape, so a picture's
    need not be looked at once more.
    """
    if not isinstance(event, (ResultEvent, DisplayUpdate)):
        return ascii_json(event.model_dump(by_alias=True, exclude_none=True))
    fields = {name: value for name, value in vars(event).items() if value is not None}
    shown = fields.pop("bundle")
    values = bundle.to_wire(shown)
    long = [name for name, value in values.items() if verbatim and _may_go_as_it_is(value)]
    texts = {name: values.pop(name) for name in long}
    parts = [ascii_json(fields)[:-1], b',"bundle":', ascii_json(values)]
    if texts:
        parts[-1] = parts[-1][:-1]
        for name, text in texts.items():
            parts += [b',"%b":"' % name.encode(), text.encode(), b'"']
        parts.append(b"}")
    return b"".join([*parts, b"}"])


def _may_go_as_it_is(value: Any) -> bool:
    """A value that was no text became one here: JSON, with quotes and escapes of its own."""
    return (
        isinstance(value, str)
        and len(value) >= LONG
        and value.isascii()
        and '"' not in value
        and "\\" not in value
    )


def ascii_json(fields: dict[str, Any]) -> bytes:
    try:
        data = orjson.dumps(fields)
    except TypeError:  # integers of more than 64 bits
        return json.dumps(fields).encode("ascii")
    if data.isascii():
        return data
    text = data.decode()
    if (len(data) - len(text)) * _SPARSE > len(text):
        return json.dumps(fields).encode("ascii")
    return text.encode("ascii", _ESCAPE)


_SPARSE = 1000
"""Where fewer characters than one in so many are not ASCII, escaping these alone is quicker."""
_ESCAPE = "code_interpreter.json_escape"


def _escape(error: UnicodeError) -> tuple[str, int]:
    """In JSON such characters are within strings only, so they are escaped where they stand."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_ESCAPE, _escape)


def _size(event: ExecutionEvent) -> int:
    text = getattr(event, "text", None)
    if isinstance(text, str):
        return _EVENT_BYTES + _text_size(text)
    shown = getattr(event, "bundle", None)
    if shown is None:
        return _EVENT_BYTES
    values = vars(shown).values()
    return _EVENT_BYTES + sum(_text_size(value) for value in values if isinstance(value, str))


def _text_size(text: str) -> int:
    """With its frame, in which a character that is not ASCII takes six bytes."""
    if text.isascii():
        return len(text)
    return len(text) + 6 * (len(text.encode("utf-8", "replace")) - len(text))
