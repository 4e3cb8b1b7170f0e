"""An execution that goes on while the program does something else."""

from __future__ import annotations

import contextlib
import queue
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from code_interpreter.collector import Callbacks, Collector, earlier, input_line
from code_interpreter.connection import Connection, Subscription
from code_interpreter.errors import (
    ConnectionLostException,
    ExecutionTimeoutException,
    RequestTimeoutException,
    SandboxKilledException,
    TimeoutException,
)
from code_interpreter.models import Execution
from code_interpreter.protocol.executions import (
    Cause,
    ExecutionEvent,
    InputRequest,
)

if TYPE_CHECKING:
    from code_interpreter.sandbox import Sandbox

LATE_SECONDS = 0.1
"""How much longer than its time-out a cell is waited for: the sandbox keeps time itself."""
STOP_SECONDS = 0.5
"""How long a cell that was told to stop is waited for, to learn what became of the kernel."""


class ExecutionHandle:
    """One execution. Iterate over it for its events, or `wait` for its end.

    A foreground cell (`Sandbox.stream_code`) is cancelled if it still runs when the handle
    is closed; one in the background runs on. Reading from several threads at once is not
    supported; each can have a handle of its own from `Sandbox.attach_execution`.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        connection: Connection,
        subscription: Subscription,
        callbacks: Callbacks,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        background: bool = False,
    ) -> None:
        self.id = subscription.course.execution_id
        """Names the execution in its sandbox."""
        self._sandbox = sandbox
        self._connection = connection
        self._subscription = subscription
        self._collector = Collector(callbacks, self.id)
        self._timeout = timeout
        self._deadline = deadline
        self._background = background
        self._first: ExecutionEvent | None = None

    @property
    def execution(self) -> Execution:
        """What has arrived so far; complete when `done`."""
        return self._collector.execution

    @property
    def queue_position(self) -> int | None:
        """Cells of its context that come before it; None if it runs or has ended.

        As far as its events have been read: iterate over them to see it move.
        """
        return self._collector.queue_position

    @property
    def done(self) -> bool:
        """Whether the last event has been read."""
        return self._subscription.course.ended

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ExecutionEvent:
        """The next event, after the callbacks for it.

        Where `wait` raises, this does so after the last event.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self.done:
            self._check_end()
            raise StopIteration
        return self._next(None)

    def wait(self, timeout: float | None = None) -> Execution:
        """Read to the end.

        ``timeout`` seconds from now `TimeoutException` is raised, and the cell runs on.
        Raises `ExecutionTimeoutException` if the cell was stopped by its own time-out, and
        `ConnectionLostException` if it was stopped because the connection was lost.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self.done:
            self._next(until)
        self._check_end()
        return self.execution

    def begin(self, open_timeout: float | None) -> Self:
        """Wait until the sandbox has taken the cell, or raise why it has not."""
        until = None if open_timeout is None else time.monotonic() + open_timeout
        try:
            self._first = self._receive(until)
        except queue.Empty:
            self.close()
            raise RequestTimeoutException from None
        except BaseException:
            self.close()
            raise
        return self

    def cancel(self) -> None:
        """Have the cell stopped. Does not wait: `wait` tells what became of it."""
        self._connection.send(self._subscription.course.cancel())

    def close(self) -> None:
        """Hear no more of it. A foreground cell that still runs is cancelled."""
        if not self.done and not self._background:
            self.cancel()
        self._subscription.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, done={self.done})"

    def _check_end(self) -> None:
        if self.execution.cause is Cause.TIMEOUT:
            raise ExecutionTimeoutException(self.execution, self._timeout)
        if self.execution.cause is Cause.DISCONNECT and not self._background:
            raise ConnectionLostException.for_a_while(self.execution)

    def _next(self, until: float | None) -> ExecutionEvent:
        try:
            return self._receive(earlier(until, self._deadline))
        except queue.Empty:
            if self._deadline is None or time.monotonic() < self._deadline:
                raise TimeoutException(
                    f"Execution '{self.id}' has not ended yet; it runs on"
                ) from None
            self._stop()
            raise ExecutionTimeoutException(self.execution, self._timeout) from None

    def _receive(self, until: float | None) -> ExecutionEvent:
        try:
            left = None if until is None else max(0.0, until - time.monotonic())
            event = self._subscription.receive(left)
        except ConnectionLostException as lost:
            if self._sandbox._is_gone():
                raise SandboxKilledException from lost
            raise
        call = self._collector.take(event)
        if call is not None:
            answer = call[0](call[1])
            if isinstance(event, InputRequest):
                line = self._subscription.course.answer(input_line(answer))
                self._connection.send(line)
        return event

    def _stop(self) -> None:
        """Cancel, and listen a little longer for what it does to the kernel."""
        self.cancel()
        until = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(queue.Empty):
            while not self.done:
                self._receive(until)
