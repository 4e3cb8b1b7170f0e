"""One WebSocket for all executions of one `AsyncSandbox` object."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from collections.abc import Awaitable, Callable

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from code_interpreter import embedded
from code_interpreter import link as links
from code_interpreter.course import Course
from code_interpreter.errors import SandboxException
from code_interpreter.link import Link
from code_interpreter.protocol.executions import (
    ClientMessage,
    EndOfExecution,
    ExecutionEvent,
    GatewayMessage,
    encode,
    gateway_message,
)


class AsyncSubscription:
    """The events of one execution, in order, as they come."""

    def __init__(
        self,
        course: Course,
        forget: Callable[[AsyncSubscription], None],
        ping: Callable[[], Awaitable[None]],
    ) -> None:
        self.course = course
        self._ping = ping
        self.inbox: asyncio.Queue[GatewayMessage | Exception | None] = asyncio.Queue()
        """None: what follows came over a new connection."""
        self._forget = forget
        self._failure: Exception | None = None

    async def receive(self) -> ExecutionEvent:
        """The next event. Raises what ended the execution for this client."""
        while True:
            if self._failure is not None:
                raise self._failure
            message = await self._next()
            if message is None:
                self.course.reopen()
                continue
            if isinstance(message, Exception):
                self._failure = message
                raise message
            event = self.course.receive(message)
            if event is not None:
                return event

    async def _next(self) -> GatewayMessage | Exception | None:
        while True:
            try:
                async with asyncio.timeout(links.SILENT_SECONDS):
                    return await self.inbox.get()
            except TimeoutError:
                await self._ping()

    def close(self) -> None:
        """Events that are still to come are thrown away."""
        self._forget(self)
        self._failure = self._failure or SandboxException("This handle is closed")


class AsyncConnection:
    """Opened by the first execution, shared by all; opened again when it was lost.

    Belongs to one event loop. A task reads as long as a WebSocket is open; it ends with
    `close`, which the owner calls, or with the loop.
    """

    def __init__(self, link: Link, *, shared: bool = True) -> None:
        self._link = link
        self._shared = shared
        self.loop = asyncio.get_running_loop()
        self._opening = asyncio.Lock()
        self._subscriptions: weakref.WeakValueDictionary[str, AsyncSubscription] = (
            weakref.WeakValueDictionary()
        )
        self._coming: set[str] = set()
        """Executions whose events come over this WebSocket, whether anybody takes them or not."""
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    def is_taken_for(self, execution_id: str) -> bool:
        """Whether events of this execution come here already; another's would mix with them."""
        return execution_id in self._coming

    async def subscribe(self, course: Course, open_timeout: float | None) -> AsyncSubscription:
        """Start or attach to an execution.

        ``open_timeout`` seconds are for opening the WebSocket if there is none. Raises
        `links.WebSocketUnavailable`, or an exception of `code_interpreter.errors`.
        """
        subscription = AsyncSubscription(course, self._forget, self._ping)
        async with self._opening:
            self._subscriptions[course.execution_id] = subscription
            self._coming.add(course.execution_id)
            if self._reader is None:
                try:
                    await self._open(open_timeout)
                except BaseException:
                    self._forget(subscription)
                    self._coming.discard(course.execution_id)
                    raise
        try:
            for message in course.opening():
                await self.send(message)
        except BaseException:
            self._forget(subscription)
            if course.dies_with_client:
                await self.send(course.cancel())
            raise
        return subscription

    async def send(self, message: ClientMessage) -> None:
        """Send, or leave it to the reader, which says everything again on a new WebSocket."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                await self._socket.send(encode(message))

    async def _ping(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                await self._socket.ping()

    def close(self) -> None:
        """Let go of the WebSocket. Safe in a finalizer, in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left of it
            self.loop.call_soon_threadsafe(self._end_reader)

    def _end_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    async def _open(self, open_timeout: float | None) -> None:
        try:
            self._socket = await self._connect(open_timeout)
        except Exception as error:
            raise links.explain_refusal(error) from error
        self._reader = asyncio.create_task(
            self._read(), name=f"executions of {self._link.sandbox_id}"
        )

    async def _connect(self, open_timeout: float | None) -> ClientConnection:
        try:
            return await self._dial(open_timeout)
        except links.NOBODY_THERE:
            if not await asyncio.to_thread(embedded.revive, self._link.url):
                raise
        return await self._dial(open_timeout)

    async def _dial(self, open_timeout: float | None) -> ClientConnection:
        websocket = await connect(
            self._link.websocket_url, open_timeout=open_timeout, **self._link.websocket_options()
        )
        try:
            links.check_subprotocol(websocket.subprotocol)
            tcp: socket.socket = websocket.transport.get_extra_info("socket")
            links.keep_alive(tcp)
        except BaseException:
            websocket.transport.abort()
            raise
        return websocket

    async def _read(self) -> None:
        try:
            while self._socket is not None:
                reason = await self._read_until_closed(self._socket)
                self._socket = None
                if self._subscriptions:
                    await self._reconnect(reason)
        except Exception as error:  # nobody may wait for a task that is gone
            self._give_up(error, error)
            raise
        finally:
            self._reader = None
            self._coming.clear()
            if self._socket is not None:
                self._socket.transport.abort()
                self._socket = None

    async def _read_until_closed(self, websocket: ClientConnection) -> Exception:
        try:
            while True:
                self._receive(await websocket.recv())
        except ConnectionClosed as closed:
            return closed

    def _receive(self, text: str | bytes) -> None:
        try:
            message = gateway_message.validate_json(text)
        except ValidationError as error:
            self._fail_all(SandboxException(f"The sandbox sent what cannot be read: {error}"))
            return
        if message.execution_id is None:
            self._fail_all(SandboxException(f"The sandbox refused a message: {message.message}"))
            return
        if isinstance(message, EndOfExecution):
            self._coming.discard(message.execution_id)
        subscription = self._subscriptions.get(message.execution_id)
        if subscription is not None:
            subscription.inbox.put_nowait(message)

    async def _reconnect(self, reason: Exception) -> None:
        """Replace the lost WebSocket, or fail whoever waits on it."""
        deadline = self.loop.time() + links.RECONNECT_SECONDS
        for delay in links.delays():
            try:
                self._socket = await self._connect(max(1.0, deadline - self.loop.time()))
                break
            except Exception as error:
                final = links.is_final(error)
                if final is not None or self.loop.time() + delay > deadline:
                    self._give_up(final, reason)
                    return
            await asyncio.sleep(delay)
        waiting = list(self._subscriptions.values())
        self._coming = {subscription.course.execution_id for subscription in waiting}
        for subscription in waiting:
            subscription.inbox.put_nowait(None)
            for message in subscription.course.opening():
                await self.send(message)

    def _give_up(self, final: Exception | None, reason: Exception) -> None:
        lost = dict(self._subscriptions)
        self._subscriptions.clear()
        self._coming.clear()
        for execution_id, subscription in lost.items():
            subscription.inbox.put_nowait(links.loss(final, execution_id, reason))

    def _fail_all(self, error: Exception) -> None:
        for subscription in list(self._subscriptions.values()):
            subscription.inbox.put_nowait(error)

    def _forget(self, subscription: AsyncSubscription) -> None:
        self._subscriptions.pop(subscription.course.execution_id, None)
        if not self._shared:
            self.close()
