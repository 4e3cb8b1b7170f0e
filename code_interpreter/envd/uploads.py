"""``POST /files``: contents of files, with flat memory."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from code_interpreter.envd.access import user_with_token_or_signature
from code_interpreter.envd.answers import Refused
from code_interpreter.envd.codings import decoded
from code_interpreter.envd.metadata import metadata_of_headers, replace_metadata
from code_interpreter.envd.multipart import parts_of
from code_interpreter.envd.paths import resolve
from code_interpreter.envd.state import State
from code_interpreter.envd.tree import Tree
from code_interpreter.guest.users import User

GATHERED = 1024 * 1024
"""Bytes that are written at a time."""
SMALL = 64 * 1024
"""Bytes up to which a body is all there before its file is opened."""
_MOST_PIECES = 512
"""Of these bytes; writev(2) takes 1024."""


class Uploads:
    def __init__(self, state: State, tree: Tree) -> None:
        self._state = state
        self._tree = tree

    async def post(self, request: Request) -> Response:
        user = user_with_token_or_signature(self._state, request, "write")
        target = request.query_params.get("path")
        metadata = metadata_of_headers(request.headers.items())
        kind, options = parse_options_header(request.headers.get("content-type"))
        body = decoded(request.stream(), request.headers.get("content-encoding"))
        match kind:
            case b"multipart/form-data":
                written = await self._receive_parts(body, options, target, user, metadata)
            case b"application/octet-stream":
                if not target:
                    raise Refused(400, "an octet-stream upload needs the query parameter 'path'")
                written = [await self._receive(body, resolve(target, user), user, metadata)]
            case _:
                raise Refused(
                    400,
                    "Content-Type must be multipart/form-data or application/octet-stream, "
                    f"not '{kind.decode(errors='replace')}'",
                )
        return JSONResponse(written)

    async def _receive_parts(
        self,
        body: AsyncIterator[bytes],
        options: dict[bytes, bytes],
        target: str | None,
        user: User,
        metadata: dict[str, str],
    ) -> list[dict[str, Any]]:
        boundary = options.get(b"boundary")
        if not boundary:
            raise Refused(400, "the multipart body's Content-Type has no boundary")
        written: dict[str, dict[str, Any]] = {}
        async for part in parts_of(body, boundary):
            if part.name != "file":
                continue
            named = target or part.filename
            if not named:
                raise Refused(400, "a part has no filename, and there is no parameter 'path'")
            path = resolve(named, user)
            if path in written:
                raise Refused(400, f"path '{path}' is uploaded twice in one request")
            written[path] = await self._receive(part.contents(), path, user, metadata)
        if not written:
            raise Refused(400, "the multipart body has no part called 'file'")
        return list(written.values())

    async def _receive(
        self, pieces: AsyncIterator[bytes], path: str, user: User, metadata: dict[str, str]
    ) -> dict[str, Any]:
        start, whole = await _start_of(pieces)
        if whole:
            await asyncio.to_thread(self._write_small, start, path, user, metadata)
        else:
            await self._write_large(_continued(start, pieces), path, user, metadata)
        return written(path) | ({"metadata": metadata} if metadata else {})

    def _write_small(
        self, pieces: list[bytes], path: str, user: User, metadata: dict[str, str]
    ) -> None:
        """In one go: each change of threads takes longer than the work."""
        descriptor = self._tree.open_to_write(path, user)
        try:
            write_all(descriptor, pieces, path)
            replace_metadata(descriptor, metadata)
        finally:
            os.close(descriptor)

    async def _write_large(
        self, pieces: AsyncIterator[bytes], path: str, user: User, metadata: dict[str, str]
    ) -> None:
        descriptor = await asyncio.to_thread(self._tree.open_to_write, path, user)
        try:
            await _write(descriptor, pieces, path)
            await asyncio.to_thread(replace_metadata, descriptor, metadata)
        finally:
            os.close(descriptor)


async def _start_of(pieces: AsyncIterator[bytes]) -> tuple[list[bytes], bool]:
    """Of a body, up to a little more than `SMALL`; whether that is all of it."""
    found: list[bytes] = []
    size = 0
    async for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size > SMALL or len(found) >= _MOST_PIECES:
            return found, False
    return found, True


async def _continued(start: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for piece in start:
        yield piece
    async for piece in rest:
        yield piece


def written(path: str) -> dict[str, Any]:
    """How the answer describes a file."""
    return {"path": path, "name": os.path.basename(path), "type": "file"}


async def _write(descriptor: int, pieces: AsyncIterator[bytes], path: str) -> None:
    """Nothing is written any more when this returns, whatever way it does."""
    writer = _Writer(descriptor, path)
    gathered: list[bytes] = []
    size = 0
    try:
        async for piece in pieces:
            gathered.append(piece)
            size += len(piece)
            if size >= GATHERED or len(gathered) >= _MOST_PIECES:
                await writer.write(gathered)
                gathered, size = [], 0
        await writer.write(gathered)
        await writer.done()
    finally:
        await writer.leave()


class _Writer:
    """Writes in a thread, some pieces while the next ones come."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._work: asyncio.Task[None] | None = None

    async def write(self, pieces: list[bytes]) -> None:
        """Returns when those before them are written. Raises OSError of either."""
        await self.done()
        work = asyncio.to_thread(write_all, self._descriptor, pieces, self._path)
        self._work = asyncio.create_task(work)

    async def done(self) -> None:
        if self._work is not None:
            await asyncio.shield(self._work)

    async def leave(self) -> None:
        """A thread cannot be cancelled, and has the descriptor: wait for it."""
        if self._work is None:
            return
        cancelled: asyncio.CancelledError | None = None
        while not self._work.done():
            try:
                await asyncio.wait([self._work])
            except asyncio.CancelledError as error:
                cancelled = error
        self._work.exception()
        if cancelled is not None:
            raise cancelled


def write_all(descriptor: int, pieces: Sequence[bytes], path: str) -> None:
    """Blocks. Raises OSError with ``path``."""
    rest = deque(memoryview(piece) for piece in pieces)
    try:
        while rest:
            written = os.writev(descriptor, rest)
            while rest and written >= len(rest[0]):
                written -= len(rest.popleft())
            if written:
                rest[0] = rest[0][written:]
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
