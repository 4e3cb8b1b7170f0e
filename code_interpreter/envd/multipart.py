"""Bodies of ``multipart/form-data``, part by part as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from code_interpreter.envd.answers import Refused

_ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}
"""What clients escape in a file name, and nothing else: '%' itself stays."""
_LONGEST_HEADER = 32 * 1024
"""Bytes; a file's whole path stands in one."""


@dataclass(slots=True)
class Part:
    """One part. Its contents must be read, or skipped, before the next one."""

    name: str
    filename: str | None
    _reader: _Reader

    async def contents(self) -> AsyncIterator[bytes]:
        while (piece := await self._reader.next_piece()) is not None:
            yield piece


async def parts_of(body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[Part]:
    """Raises `Refused` where the body is broken."""
    reader = _Reader(body, boundary)
    while (headers := await reader.next_headers()) is not None:
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        filename = options.get(b"filename")
        yield Part(_text(options.get(b"name", b"")), _unescaped(filename), reader)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _unescaped(filename: bytes | None) -> str | None:
    if filename is None:
        return None
    name = _text(filename)
    for escaped, meant in _ESCAPED.items():
        name = name.replace(escaped, meant)
    return name


class _Reader:
    """Turns the parser's callbacks into what can be waited for."""

    def __init__(self, body: AsyncIterator[bytes], boundary: bytes) -> None:
        self._body = body
        self._events: deque[bytes | dict[bytes, bytes] | None] = deque()
        self._ended = False
        self._complete = False
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_size=_LONGEST_HEADER,
            )
        except FormParserError as error:
            raise Refused(400, f"the multipart body's boundary is not valid: {error}") from error

    async def next_headers(self) -> dict[bytes, bytes] | None:
        """Of the next part; None after the last one."""
        while await self._fill():
            event = self._events.popleft()
            if isinstance(event, dict):
                return event
        return None

    async def next_piece(self) -> bytes | None:
        """Of this part; None after the last one."""
        if not await self._fill() or isinstance(self._events[0], dict):
            return None
        event = self._events.popleft()
        assert not isinstance(event, dict)
        return event

    async def _fill(self) -> bool:
        """False if the body is at its end."""
        while not self._events and not self._ended:
            piece = await anext(self._body, None)
            self._parse(piece)
        return bool(self._events)

    def _parse(self, piece: bytes | None) -> None:
        try:
            if piece is None:
                self._ended = True
                self._parser.finalize()
                if not self._complete:
                    raise Refused(400, "the multipart body ends before its last boundary")
            else:
                self._parser.write(piece)
        except FormParserError as error:
            raise Refused(400, f"the multipart body is broken: {error}") from error

    # --- the parser's callbacks -----------------------------------------------------------

    def _begin(self) -> None:
        self._headers = {}

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        self._events.append(self._headers)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(bytes(data[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(None)

    def _on_end(self) -> None:
        self._complete = True
