"""``POST /files/compose``: files, put together into one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from code_interpreter.envd.access import user_with_token
from code_interpreter.envd.answers import Refused
from code_interpreter.envd.paths import resolve
from code_interpreter.envd.state import State
from code_interpreter.envd.tree import Tree
from code_interpreter.envd.uploads import GATHERED, write_all, written
from code_interpreter.guest.users import User

_MOST_JSON = 1024 * 1024


class ComposeBody(BaseModel):
    """Body of ``POST /files/compose``."""

    source_paths: list[str]
    destination: str
    username: str | None = None


class Composing:
    def __init__(self, state: State, tree: Tree) -> None:
        self._state = state
        self._tree = tree

    async def post(self, request: Request) -> Response:
        """Put files together into one, and remove them."""
        user = user_with_token(self._state, request)
        body = await _json(request)
        if body.username:
            user = self._state.user(body.username)
        sources = [resolve(path, user) for path in body.source_paths]
        destination = resolve(body.destination, user)
        await asyncio.to_thread(compose, self._tree, sources, destination, user)
        return JSONResponse(written(destination))


def compose(tree: Tree, sources: list[str], destination: str, user: User) -> None:
    """All or nothing: until the last byte is written, everything is as it was.

    The destination may be one of the sources. A source that was replaced meanwhile is not
    the file that was read, and stays. Blocks; raises OSError.
    """
    with contextlib.ExitStack() as stack:
        opened = {source: stack.enter_context(_reading(tree, source)) for source in sources}
        tree.make_directories(os.path.dirname(destination), user)
        above, name = stack.enter_context(tree.parent(destination))
        with _unfinished(above, destination) as (made, unfinished):
            tree.give(made, user)
            for source in sources:
                _copy(opened[source], made, destination)
            try:
                os.replace(unfinished, name, src_dir_fd=above, dst_dir_fd=above)
            except OSError as error:
                raise OSError(error.errno, error.strerror, destination) from error
        for source, descriptor in opened.items():
            if source != destination:
                _remove(tree, source, descriptor)


@contextmanager
def _reading(tree: Tree, path: str) -> Iterator[int]:
    descriptor = tree.open_to_read(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _unfinished(above: int, path: str) -> Iterator[tuple[int, str]]:
    """A new file in an open directory, and its name; gone at the end unless it was renamed."""
    name = f".{secrets.token_hex(8)}.unfinished"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, 0o644, dir_fd=above)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=above)


def _copy(source: int, target: int, path: str) -> None:
    at = 0
    while piece := os.pread(source, GATHERED, at):
        write_all(target, [piece], path)
        at += len(piece)


def _remove(tree: Tree, path: str, read: int) -> None:
    with contextlib.suppress(FileNotFoundError), tree.parent(path) as (above, name):
        status = os.stat(name, dir_fd=above, follow_symlinks=True)
        if os.path.samestat(status, os.fstat(read)):
            os.unlink(name, dir_fd=above)


async def _json(request: Request) -> ComposeBody:
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST_JSON:
            raise Refused(413, f"the body has more than {_MOST_JSON} bytes")
    try:
        body = ComposeBody.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise Refused(
            400, f"expected {{source_paths: [path], destination: path}}: {where}: {fault['msg']}"
        ) from error
    if not body.source_paths:
        raise Refused(400, "source_paths is empty; name the files to put together")
    return body
