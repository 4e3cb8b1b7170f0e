"""``filesystem.Filesystem`` over Connect: everything about files but their contents."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Literal, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem.filesystem_connect import Filesystem as FilesystemProtocol
from e2b.envd.filesystem.filesystem_pb import (
    CreateWatcherRequest,
    CreateWatcherResponse,
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

from code_interpreter.envd import departure
from code_interpreter.envd.filesystem import AlreadyThere, Filesystem
from code_interpreter.envd.mounts import is_on_network
from code_interpreter.envd.paths import resolve
from code_interpreter.envd.process_service import Context, keepalive_interval
from code_interpreter.envd.refusals import refusals
from code_interpreter.envd.state import State
from code_interpreter.envd.text import printable
from code_interpreter.envd.watching import Change, Watch
from code_interpreter.guest.users import User

MOST_WATCHERS = 1000
_WITH_ENTRY = {EventType.CREATE, EventType.WRITE, EventType.CHMOD}
T = TypeVar("T")


class FilesystemService(FilesystemProtocol):
    def __init__(self, state: State, files: Filesystem) -> None:
        self._state = state
        self._files = files
        self._watches: dict[str, tuple[Watch, bool]] = {}

    def has_watchers(self) -> bool:
        return bool(self._watches)

    async def stat(self, request: StatRequest, ctx: Context) -> StatResponse:
        path, _ = self._resolve(request.path, ctx)
        return StatResponse(entry=await _in_thread(self._files.describe, path))

    async def make_dir(self, request: MakeDirRequest, ctx: Context) -> MakeDirResponse:
        path, user = self._resolve(request.path, ctx)
        try:
            return MakeDirResponse(entry=await _in_thread(self._files.make_directory, path, user))
        except AlreadyThere as error:
            raise ConnectError(Code.ALREADY_EXISTS, str(error)) from error

    async def move(self, request: MoveRequest, ctx: Context) -> MoveResponse:
        source, user = self._resolve(request.source, ctx)
        target, _ = self._resolve(request.destination, ctx)
        return MoveResponse(entry=await _in_thread(self._files.move, source, target, user))

    async def list_dir(self, request: ListDirRequest, ctx: Context) -> ListDirResponse:
        path, _ = self._resolve(request.path, ctx)
        entries = await _in_thread(self._files.list, path, request.depth or 1)
        return ListDirResponse(entries=entries)

    async def remove(self, request: RemoveRequest, ctx: Context) -> RemoveResponse:
        path, _ = self._resolve(request.path, ctx)
        await _in_thread(self._files.remove, path)
        return RemoveResponse()

    # --- watching -------------------------------------------------------------------------

    async def watch_dir(
        self, request: WatchDirRequest, ctx: Context
    ) -> AsyncIterator[WatchDirResponse]:
        watch = await self._watch(request, ctx)
        idle = keepalive_interval(ctx)
        gone = asyncio.Event()
        with contextlib.ExitStack() as stack:
            stack.callback(watch.close)
            stack.enter_context(departure.current.get().calls(gone.set))
            stack.enter_context(departure.current.get().calls(watch.close))
            yield _start_message()
            while not gone.is_set():
                with refusals():
                    changes = await watch.changes(idle)
                for change in changes:
                    event = await self._encode(watch, change, with_entry=request.include_entry)
                    yield _change_message(event)
                if not changes:
                    yield _keepalive_message()

    async def create_watcher(
        self, request: CreateWatcherRequest, ctx: Context
    ) -> CreateWatcherResponse:
        if len(self._watches) >= MOST_WATCHERS:
            raise ConnectError(
                Code.FAILED_PRECONDITION, f"there are {MOST_WATCHERS} watchers; remove some"
            )
        watch = await self._watch(request, ctx)
        watcher_id = "w" + secrets.token_hex(8)
        self._watches[watcher_id] = (watch, request.include_entry)
        return CreateWatcherResponse(watcher_id=watcher_id)

    async def get_watcher_events(
        self, request: GetWatcherEventsRequest, ctx: Context
    ) -> GetWatcherEventsResponse:
        watch, with_entry = self._watcher(request.watcher_id)
        with refusals():
            changes = watch.drain()
        events = [await self._encode(watch, change, with_entry=with_entry) for change in changes]
        return GetWatcherEventsResponse(events=events)

    async def remove_watcher(
        self, request: RemoveWatcherRequest, ctx: Context
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

    async def _watch(self, request: WatchDirRequest | CreateWatcherRequest, ctx: Context) -> Watch:
        path, _ = self._resolve(request.path, ctx)
        place = await _in_thread(self._files.place_of_directory, path)
        if not request.allow_network_mounts and is_on_network(place):
            raise ConnectError(
                Code.INVALID_ARGUMENT,
                f"{path} is on a network mount, whose changes are only seen if they are made "
                "here; set allow_network_mounts to watch it all the same",
            )
        watch = await _in_thread(self._files.watch, path, request.recursive)
        watch.start()
        return watch

    async def _encode(self, watch: Watch, change: Change, *, with_entry: bool) -> FilesystemEvent:
        event = FilesystemEvent(name=printable(change.name), type=change.type)
        if with_entry and change.type in _WITH_ENTRY:
            path = os.path.join(watch.root, change.name)
            with contextlib.suppress(ConnectError):  # it is gone by now
                event.entry = await _in_thread(self._files.describe, path)
        return event

    def _resolve(self, path: str, ctx: Context) -> tuple[str, User]:
        with refusals():
            user = self._state.user_of(ctx.request_headers.get("authorization"))
            return resolve(path, user), user


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    with refusals():
        return await asyncio.to_thread(work, *arguments)


def _start_message() -> WatchDirResponse:
    start: Oneof[Literal["start"], WatchDirResponse.StartEvent]
    start = Oneof("start", WatchDirResponse.StartEvent())
    return WatchDirResponse(event=start)


def _change_message(event: FilesystemEvent) -> WatchDirResponse:
    change: Oneof[Literal["filesystem"], FilesystemEvent] = Oneof("filesystem", event)
    return WatchDirResponse(event=change)


def _keepalive_message() -> WatchDirResponse:
    keepalive: Oneof[Literal["keepalive"], WatchDirResponse.KeepAlive]
    keepalive = Oneof("keepalive", WatchDirResponse.KeepAlive())
    return WatchDirResponse(event=keepalive)
