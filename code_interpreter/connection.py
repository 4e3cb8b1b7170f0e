"""One WebSocket for all executions of one `Sandbox` object."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
import weakref
from collections.abc import Callable

from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

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


class Subscription:
    """The events of one execution, in order, as they come."""

    def __init__(
        self, course: Course, forget: Callable[[Subscription], None], ping: Callable[[], None]
    ) -> None:
        self.course = course
        self._ping = ping
        self.inbox: queue.SimpleQueue[GatewayMessage | Exception | None] = queue.SimpleQueue()
        """None: what follows came over a new connection."""
        self._forget = forget
        self._failure: Exception | None = None

    def receive(self, timeout: float | None) -> ExecutionEvent:
        """The next event. Raises `queue.Empty` after ``timeout`` seconds, and what ended it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._failure is not None:
                raise self._failure
            message = self._next(left)
            if message is None:
                self.course.reopen()
                continue
            if isinstance(message, Exception):
                self._failure = message
                raise message
            event = self.course.receive(message)
            if event is not None:
                return event

    def _next(self, left: float | None) -> GatewayMessage | Exception | None:
        while left is None or left > links.SILENT_SECONDS:
            try:
                return self.inbox.get(timeout=links.SILENT_SECONDS)
            except queue.Empty:
                self._ping()
            left = None if left is None else left - links.SILENT_SECONDS
        return self.inbox.get(timeout=left)

    def close(self) -> None:
        """Events that are still to come are thrown away."""
        self._forget(self)
        self._failure = self._failure or SandboxException("This handle is closed")


class Connection:
    """Opened by the first execution, shared by all; opened again when it was lost.

    A thread reads as long as a WebSocket is open; it ends with `close`, which the owner
    calls, or with the process.
    """

    def __init__(self, link: Link, *, shared: bool = True) -> None:
        self._link = link
        self._shared = shared
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._subscriptions: weakref.WeakValueDictionary[str, Subscription] = (
            weakref.WeakValueDictionary()
        )
        self._coming: set[str] = set()
        """Executions whose events come over this WebSocket, whether anybody takes them or not."""
        self._socket: ClientConnection | None = None
        self._reader: threading.Thread | None = None
        self._closed = False
        self.process = os.getpid()
        """Whom the reader belongs to: a fork has the object, but not the thread."""

    def is_taken_for(self, execution_id: str) -> bool:
        """Whether events of this execution come here already; another's would mix with them."""
        with self._lock:
            return execution_id in self._coming

    def subscribe(self, course: Course, timeout: float | None) -> Subscription:
        """Start or attach to an execution.

        ``timeout`` seconds are for opening the WebSocket if there is none. Raises
        `links.WebSocketUnavailable`, or an exception of `code_interpreter.errors`.
        """
        subscription = Subscription(course, self._forget, self._ping)
        with self._opening:
            with self._lock:
                self._subscriptions[course.execution_id] = subscription
                self._coming.add(course.execution_id)
                connected = self._reader is not None
            if not connected:
                try:
                    self._open(timeout)
                except BaseException:
                    self._forget(subscription)
                    with self._lock:
                        self._coming.discard(course.execution_id)
                    raise
        try:
            for message in course.opening():
                self.send(message)
        except BaseException:
            self._forget(subscription)
            if course.dies_with_client:
                self.send(course.cancel())
            raise
        return subscription

    def send(self, message: ClientMessage) -> None:
        """Send, or leave it to the reader, which says everything again on a new WebSocket."""
        websocket = self._socket
        if websocket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                websocket.send(encode(message))

    def _ping(self) -> None:
        websocket = self._socket
        if websocket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                websocket.ping()

    def close(self) -> None:
        """Let go of the WebSocket. Safe in a finalizer: it waits for nothing."""
        self._closed = True
        if self._socket is not None and self.process == os.getpid():
            _shut_down(self._socket)

    def _open(self, timeout: float | None) -> None:
        try:
            websocket = self._connect(timeout)
        except Exception as error:
            raise links.explain_refusal(error) from error
        with self._lock:
            self._socket = websocket
            self._reader = threading.Thread(
                target=self._read, name=f"executions of {self._link.sandbox_id}", daemon=True
            )
        self._reader.start()

    def _connect(self, timeout: float | None) -> ClientConnection:
        try:
            return self._dial(timeout)
        except links.NOBODY_THERE:
            if not embedded.revive(self._link.url):
                raise
        return self._dial(timeout)

    def _dial(self, timeout: float | None) -> ClientConnection:
        websocket: ClientConnection = connect(
            self._link.websocket_url, open_timeout=timeout, **self._link.websocket_options()
        )
        websocket.__enter__()  # its with block ends where `_read` does
        try:
            links.check_subprotocol(websocket.subprotocol)
            links.keep_alive(websocket.socket)
        except BaseException:
            websocket.close()
            raise
        return websocket

    def _read(self) -> None:
        try:
            while self._socket is not None:
                reason = self._read_until_closed(self._socket)
                if self._may_end():
                    return
                self._reconnect(reason)
        except Exception as error:  # nobody may wait for a thread that is gone
            self._give_up(error, error)
            raise

    def _read_until_closed(self, websocket: ClientConnection) -> Exception:
        try:
            while True:
                self._receive(websocket.recv())
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
        with self._lock:
            if isinstance(message, EndOfExecution):
                self._coming.discard(message.execution_id)
            subscription = self._subscriptions.get(message.execution_id)
        if subscription is not None:
            subscription.inbox.put(message)

    def _may_end(self) -> bool:
        with self._lock:
            if self._subscriptions and not self._closed:
                return False
            self._socket = self._reader = None
            self._coming.clear()
            return True

    def _reconnect(self, reason: Exception) -> None:
        """Replace the lost WebSocket, or fail whoever waits on it."""
        with self._lock:
            self._socket = None
        deadline = time.monotonic() + links.RECONNECT_SECONDS
        for delay in links.delays():
            try:
                websocket = self._connect(max(1.0, deadline - time.monotonic()))
                break
            except Exception as error:
                final = links.is_final(error)
                if final is not None or time.monotonic() + delay > deadline or self._closed:
                    self._give_up(final, reason)
                    return
            time.sleep(delay)
        with self._lock:
            self._socket = websocket
            waiting = list(self._subscriptions.values())
            self._coming = {subscription.course.execution_id for subscription in waiting}
        for subscription in waiting:
            subscription.inbox.put(None)
            for message in subscription.course.opening():
                self.send(message)

    def _give_up(self, final: Exception | None, reason: Exception) -> None:
        with self._lock:
            self._reader = None
            lost = dict(self._subscriptions)
            self._subscriptions.clear()
            self._coming.clear()
        for execution_id, subscription in lost.items():
            subscription.inbox.put(links.loss(final, execution_id, reason))

    def _fail_all(self, error: Exception) -> None:
        with self._lock:
            waiting = list(self._subscriptions.values())
        for subscription in waiting:
            subscription.inbox.put(error)

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.pop(subscription.course.execution_id, None)
        if not self._shared:
            self.close()


def _shut_down(websocket: ClientConnection) -> None:
    with contextlib.suppress(OSError, WebSocketException):
        websocket.socket.shutdown(socket.SHUT_RDWR)
