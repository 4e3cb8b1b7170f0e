"""``filesystem.Filesystem`` over Connect: everything about files but their contents."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from e2b.envd.filesystem.filesystem_connect import Filesystem as FilesystemProtocol
from e2b.envd.filesystem.filesystem_pb import (
    CreateWatcherRequest,
    CreateWatcherResponse,
    EntryInfo,
    EventType,
    FilesystemEvent,
    GetWatcherEventsRequest,
    GetWatcherEventsResponse,
    ListDirRequest,
    ListDirResponse,
    MakeDirRequest,
    MakeDirResponse,
    MoveRequest,
    MoveResponse,
    RemoveRequest,
    RemoveResponse,
    RemoveWatcherRequest,
    RemoveWatcherResponse,
    StatRequest,
    StatResponse,
    WatchDirRequest,
    WatchDirResponse,
)
from protobuf import Oneof

from code_interpreter.envd.entries import entry_info, is_on_network
from code_interpreter.envd.paths import (
    BadPath,
    check_length,
    make_directories,
    make_parents,
    resolve,
)
from code_interpreter.envd.process_service import keepalive_interval
from code_interpreter.envd.state import State
from code_interpreter.envd.watching import Change, Watch
from code_interpreter.guest.users import UnknownUser, User

MOST_WATCHERS = 1000
_WITH_ENTRY = {EventType.CREATE, EventType.WRITE, EventType.CHMOD}
_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
    errno.ENOSPC: Code.RESOURCE_EXHAUSTED,
    errno.EDQUOT: Code.RESOURCE_EXHAUSTED,
    errno.ENOTDIR: Code.INVALID_ARGUMENT,
    errno.EISDIR: Code.INVALID_ARGUMENT,
    errno.EEXIST: Code.INVALID_ARGUMENT,
    errno.ELOOP: Code.INVALID_ARGUMENT,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
    errno.EBUSY: Code.FAILED_PRECONDITION,
    errno.ENOTEMPTY: Code.FAILED_PRECONDITION,
}
_START: Literal["start"] = "start"
_FILESYSTEM: Literal["filesystem"] = "filesystem"
_KEEPALIVE: Literal["keepalive"] = "keepalive"
_Context = RequestContext[Any, Any]
T = TypeVar("T")


class FilesystemService(FilesystemProtocol):
    def __init__(self, state: State) -> None:
        self._state = state
        self._watches: dict[str, tuple[Watch, bool]] = {}

    async def stat(self, request: StatRequest, ctx: _Context) -> StatResponse:
        path, _ = self._resolve(request.path, ctx)
        return StatResponse(entry=await _in_thread(path, entry_info, path))

    async def make_dir(self, request: MakeDirRequest, ctx: _Context) -> MakeDirResponse:
        path, user = self._resolve(request.path, ctx)
        if os.path.isdir(path):
            raise ConnectError(Code.ALREADY_EXISTS, f"directory already exists: {path}")
        if os.path.lexists(path):
            raise ConnectError(Code.INVALID_ARGUMENT, f"path already exists, as a file: {path}")
        await _in_thread(path, make_directories, path, user, own=self._own)
        return MakeDirResponse(entry=await _in_thread(path, entry_info, path))

    async def move(self, request: MoveRequest, ctx: _Context) -> MoveResponse:
        source, user = self._resolve(request.source, ctx)
        target, _ = self._resolve(request.destination, ctx)
        await _in_thread(source, os.lstat, source)
        await _in_thread(target, make_parents, target, user, own=self._own)
        await _in_thread(source, _rename, source, target)
        return MoveResponse(entry=await _in_thread(target, entry_info, target))

    async def list_dir(self, request: ListDirRequest, ctx: _Context) -> ListDirResponse:
        path, _ = self._resolve(request.path, ctx)
        entries = await _in_thread(path, _list, path, request.depth or 1)
        return ListDirResponse(entries=entries)

    async def remove(self, request: RemoveRequest, ctx: _Context) -> RemoveResponse:
        path, _ = self._resolve(request.path, ctx)
        await _in_thread(path, _remove, path)
        return RemoveResponse()

    # --- watching -------------------------------------------------------------------------

    async def watch_dir(
        self, request: WatchDirRequest, ctx: _Context
    ) -> AsyncIterator[WatchDirResponse]:
        watch = await self._watch(request, ctx)
        try:
            yield WatchDirResponse(event=Oneof(_START, WatchDirResponse.StartEvent()))
            interval = keepalive_interval(ctx)
            while True:
                try:
                    async with asyncio.timeout(interval):
                        changes = await watch.changes()
                except TimeoutError:
                    yield WatchDirResponse(event=Oneof(_KEEPALIVE, WatchDirResponse.KeepAlive()))
                    continue
                for change in changes:
                    event = _encode(watch, change, with_entry=request.include_entry)
                    yield WatchDirResponse(event=Oneof(_FILESYSTEM, event))
        finally:
            watch.close()

    async def create_watcher(
        self, request: CreateWatcherRequest, ctx: _Context
    ) -> CreateWatcherResponse:
        if len(self._watches) >= MOST_WATCHERS:
            raise ConnectError(
                Code.RESOURCE_EXHAUSTED, f"there are {MOST_WATCHERS} watchers; remove some"
            )
        watch = await self._watch(request, ctx)
        watcher_id = "w" + secrets.token_hex(8)
        self._watches[watcher_id] = (watch, request.include_entry)
        return CreateWatcherResponse(watcher_id=watcher_id)

    async def get_watcher_events(
        self, request: GetWatcherEventsRequest, ctx: _Context
    ) -> GetWatcherEventsResponse:
        watch, with_entry = self._watcher(request.watcher_id)
        events = [_encode(watch, change, with_entry=with_entry) for change in watch.drain()]
        return GetWatcherEventsResponse(events=events)

    async def remove_watcher(
        self, request: RemoveWatcherRequest, ctx: _Context
    ) -> RemoveWatcherResponse:
        watch, _ = self._watcher(request.watcher_id)
        del self._watches[request.watcher_id]
        watch.close()
        return RemoveWatcherResponse()

    def _watcher(self, watcher_id: str) -> tuple[Watch, bool]:
        try:
            return self._watches[watcher_id]
        except KeyError:
            raise ConnectError(Code.NOT_FOUND, f"watcher {watcher_id} not found") from None

    async def _watch(self, request: WatchDirRequest | CreateWatcherRequest, ctx: _Context) -> Watch:
        path, _ = self._resolve(request.path, ctx)
        status = await _in_thread(path, os.stat, path)
        if not stat.S_ISDIR(status.st_mode):
            raise ConnectError(Code.INVALID_ARGUMENT, f"path is not a directory: {path}")
        if not request.allow_network_mounts and is_on_network(path):
            raise ConnectError(
                Code.INVALID_ARGUMENT,
                f"{path} is on a network mount, whose changes are only seen if they are made "
                "here; set allow_network_mounts to watch it all the same",
            )
        return await _in_thread(path, Watch, path, recursive=request.recursive)

    # --- paths ----------------------------------------------------------------------------

    @property
    def _own(self) -> bool:
        return self._state.config.isolated

    def _resolve(self, path: str, ctx: _Context) -> tuple[str, User]:
        try:
            user = self._state.user_of(ctx.request_headers.get("authorization"))
            return resolve(path, user), user
        except UnknownUser as error:
            raise ConnectError(Code.UNAUTHENTICATED, str(error)) from error
        except BadPath as error:
            raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error


async def _in_thread(path: str, work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    with _as_connect_errors(path):
        return await asyncio.to_thread(work, *arguments, **options)


@contextlib.contextmanager
def _as_connect_errors(path: str) -> Iterator[None]:
    try:
        yield
    except BadPath as error:
        raise ConnectError(Code.INVALID_ARGUMENT, str(error)) from error
    except OSError as error:
        code = _CODES.get(error.errno or 0, Code.INTERNAL)
        what = os.strerror(error.errno) if error.errno else str(error)
        raise ConnectError(code, f"path '{path}': {what.lower()}") from error


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, target)


def _remove(path: str) -> None:
    if path == "/":
        raise OSError(errno.EINVAL, "the root directory cannot be removed")
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _list(path: str, depth: int) -> list[EntryInfo]:
    root = path
    if not stat.S_ISDIR(os.stat(root).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return list(_entries(root, depth))


def _entries(directory: str, depth: int) -> Iterator[EntryInfo]:
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        try:
            check_length(path)
            entry = entry_info(path)
        except (FileNotFoundError, BadPath):  # removed meanwhile, or not in Unicode
            continue
        yield entry
        if depth > 1 and not entry.is_symlink and os.path.isdir(path):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                yield from _entries(path, depth - 1)


def _encode(watch: Watch, change: Change, *, with_entry: bool) -> FilesystemEvent:
    event = FilesystemEvent(name=change.name, type=change.type)
    if with_entry and change.type in _WITH_ENTRY:
        with contextlib.suppress(OSError):
            event.entry = entry_info(os.path.join(watch.root, change.name))
    return event
