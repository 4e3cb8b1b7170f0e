"""``GET /files``: the contents of a file, with flat memory."""

from __future__ import annotations

import asyncio
import email.utils
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from code_interpreter.envd.access import user_with_token_or_signature
from code_interpreter.envd.codings import choose_coding, compressed
from code_interpreter.envd.paths import resolve
from code_interpreter.envd.state import State
from code_interpreter.envd.tree import Tree

CHUNK = 1024 * 1024
"""Bytes that are read at a time; a file up to this size is answered in one piece."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class _Opened:
    descriptor: int
    size: int | None
    """None: only reading tells, as with files of /proc."""
    modified: float
    start: bytes
    """What was read already."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file, both ends included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class Downloads:
    def __init__(self, state: State, tree: Tree) -> None:
        self._state = state
        self._tree = tree

    async def get(self, request: Request) -> Response:
        user = user_with_token_or_signature(self._state, request, "read")
        path = resolve(request.query_params.get("path", ""), user)
        coding = choose_coding(request.headers.get("accept-encoding"))
        with_start = "range" not in request.headers and request.method != "HEAD"
        opened = await asyncio.to_thread(self._open, path, with_start)
        try:
            return _respond(request, opened, coding)
        except BaseException:
            os.close(opened.descriptor)
            raise

    def _open(self, path: str, with_start: bool) -> _Opened:
        descriptor = self._tree.open_to_read(path)
        try:
            status = os.fstat(descriptor)
            virtual = status.st_size == 0 or self._tree.is_virtual(descriptor)
            start = os.read(descriptor, CHUNK) if with_start else b""
        except BaseException:
            os.close(descriptor)
            raise
        return _Opened(descriptor, None if virtual else status.st_size, status.st_mtime, start)


def _respond(request: Request, opened: _Opened, coding: str) -> Response:
    headers = {
        "Content-Disposition": "inline",
        "Accept-Ranges": "bytes",
        "Last-Modified": email.utils.formatdate(opened.modified, usegmt=True),
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_known(request, opened):
        return _Contents(opened, Span(0, -1), 304, headers)
    if coding == "gzip":
        headers["Content-Encoding"] = "gzip"
        return _Contents(opened, None, 200, headers, gzip=True)
    if opened.size is None:
        return _Contents(opened, None, 200, headers)
    span = _span(request, opened)
    if span is None:
        headers["Content-Length"] = str(opened.size)
        return _Contents(opened, Span(0, opened.size - 1), 200, headers)
    if len(span) <= 0:
        headers["Content-Range"] = f"bytes */{opened.size}"
        return _Contents(opened, Span(0, -1), 416, headers)
    headers["Content-Range"] = f"bytes {span.first}-{span.last}/{opened.size}"
    headers["Content-Length"] = str(len(span))
    return _Contents(opened, span, 206, headers)


def _is_known(request: Request, opened: _Opened) -> bool:
    """Whether the client has it as it is; HTTP dates have whole seconds."""
    if "if-none-match" in request.headers:  # stronger, and we give no tags
        return False
    since = _seconds(request.headers.get("if-modified-since"))
    return (
        since is not None and "if-none-match" not in request.headers and opened.modified < since + 1
    )


def _seconds(date: str | None) -> float | None:
    if not date:
        return None
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _span(request: Request, opened: _Opened) -> Span | None:
    """A single range; None for all of it; one without bytes where there are none."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or opened.size is None:
        return None
    unless = request.headers.get("if-range")
    if unless is not None and _seconds(unless) != int(opened.modified):
        return None
    first, last = match.groups()
    if first:
        end = min(int(last), opened.size - 1) if last else opened.size - 1
        return Span(int(first), end) if not last or int(last) >= int(first) else None
    if last:
        return Span(max(0, opened.size - int(last)), opened.size - 1)
    return None


class _Contents(StreamingResponse):
    """Closes the file whatever becomes of the answer."""

    def __init__(
        self,
        opened: _Opened,
        span: Span | None,
        status: int,
        headers: dict[str, str],
        *,
        gzip: bool = False,
    ) -> None:
        self._opened = opened
        pieces = _read(opened, span)
        super().__init__(compressed(pieces) if gzip else pieces, status, headers, _TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "HEAD":
                await Response(None, self.status_code, dict(self.headers))(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            os.close(self._opened.descriptor)


async def _read(opened: _Opened, span: Span | None) -> AsyncIterator[bytes]:
    """To the end of the file without a span."""
    rest = None if span is None else len(span)
    start = opened.start[:rest]
    if start:
        yield start
        if len(start) < CHUNK and opened.size is not None:
            return
    if rest is not None:
        rest -= len(start)
    at = (span.first if span else 0) + len(start)
    while rest is None or rest > 0:
        wanted = CHUNK if rest is None else min(CHUNK, rest)
        piece = await asyncio.to_thread(os.pread, opened.descriptor, wanted, at)
        if not piece:
            return
        at += len(piece)
        if rest is not None:
            rest -= len(piece)
        yield piece
