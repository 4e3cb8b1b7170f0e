"""``/files/archive``: a directory with all that is in it, down or up in one request.

``GET /files/archive?path=`` answers with a tar stream (``application/x-tar``, pax) of the
directory's contents, names relative to it; symbolic links stay links. What a parameter
``exclude`` covers, which may come several times, is left out: `Excludes` tells how.

``POST /files/archive?path=`` puts a tar stream, gzipped or not (``Content-Encoding``), into
the directory, which is made if need be, and answers ``{"path", "entries", "bytes"}``. What
is there already is replaced file by file. An entry that would come out elsewhere, a device,
a FIFO, or more than a million entries are refused with 400, a full disk with 507; what came
before that stays.

Both need the access token, and take ``username`` as ``/files`` does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from code_interpreter.envd.access import user_with_token
from code_interpreter.envd.answers import Refused
from code_interpreter.envd.codings import decoded
from code_interpreter.envd.packing import pack
from code_interpreter.envd.paths import resolve
from code_interpreter.envd.state import State
from code_interpreter.envd.tree import Tree
from code_interpreter.envd.unpacking import Unpacked, unpack
from code_interpreter.guest.users import User
from code_interpreter.protocol.archives import CHUNK, BadArchive, Excludes

STALL = 120.0
"""Seconds that a client may send nothing in the middle of an archive."""


class Archives:
    """The handlers of both methods."""

    def __init__(self, state: State, tree: Tree) -> None:
        self._state = state
        self._tree = tree

    async def get(self, request: Request) -> Response:
        user = user_with_token(self._state, request)
        path = resolve(request.query_params.get("path", ""), user)
        descriptor = await asyncio.to_thread(self._open, path)
        return _Packed(self._tree, descriptor, request.query_params.getlist("exclude"))

    def _open(self, path: str) -> int:
        with self._tree.directory(path) as found:
            if self._tree.is_closed(found):
                raise Refused(403, f"path '{path}' is not a directory of files")
            return os.dup(found)

    async def post(self, request: Request) -> Response:
        user = user_with_token(self._state, request)
        path = resolve(request.query_params.get("path", ""), user)
        body = decoded(request.stream(), request.headers.get("content-encoding"))
        loop = asyncio.get_running_loop()

        def pull() -> bytes:
            coming = asyncio.run_coroutine_threadsafe(_next(body), loop)
            return coming.result()

        try:
            unpacked = await asyncio.to_thread(self._unpack, path, user, pull)
        except BadArchive as error:
            raise Refused(400, str(error)) from error
        return JSONResponse({"path": path} | asdict(unpacked))

    def _unpack(self, path: str, user: User, pull: Callable[[], bytes]) -> Unpacked:
        self._tree.make_directories(path, user)
        with self._tree.directory(path) as directory:
            if self._tree.is_closed(directory):
                raise Refused(403, f"path '{path}' is not a directory of files")
            return unpack(self._tree, directory, pull, user)


async def _next(body: AsyncIterator[bytes]) -> bytes:
    """The next `CHUNK` or so, as the way to the thread takes long; ``b""`` at the end.

    Raises `Refused`.
    """
    gathered = bytearray()
    while len(gathered) < CHUNK:
        try:
            async with asyncio.timeout(STALL):
                piece = await anext(body, None)
        except TimeoutError as error:
            raise Refused(408, f"nothing came for {STALL:.0f} seconds") from error
        if piece is None:
            break
        gathered += piece
    return bytes(gathered)


class _Packed(StreamingResponse):
    """Owns the directory, and closes it also when its first byte is never asked for."""

    def __init__(self, tree: Tree, directory: int, excludes: list[str]) -> None:
        self._directory = directory
        self._pieces = pack(tree, directory, Excludes(excludes))
        self._work: asyncio.Task[bytes | None] | None = None
        super().__init__(self._in_threads(), media_type="application/x-tar")

    async def _in_threads(self) -> AsyncIterator[bytes]:
        while True:
            self._work = asyncio.create_task(asyncio.to_thread(next, self._pieces, None))
            piece = await asyncio.shield(self._work)  # a thread cannot be cancelled
            if piece is None:
                return
            yield piece

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._work is None or self._work.done():
                self._close()
            else:
                self._work.add_done_callback(self._close)

    def _close(self, work: object = None) -> None:
        self._pieces.close()
        os.close(self._directory)
