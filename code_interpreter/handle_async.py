"""An execution that goes on while the program does something else, for asyncio."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from code_interpreter.collector import Callbacks, Collector, earlier, input_line, settle
from code_interpreter.connection_async import AsyncConnection, AsyncSubscription
from code_interpreter.errors import (
    ConnectionLostException,
    ExecutionTimeoutException,
    RequestTimeoutException,
    SandboxKilledException,
    TimeoutException,
)
from code_interpreter.handle import STOP_SECONDS
from code_interpreter.models import Execution
from code_interpreter.protocol.executions import (
    Cause,
    ExecutionEvent,
    InputRequest,
)

if TYPE_CHECKING:
    from code_interpreter.sandbox_async import AsyncSandbox


class AsyncExecutionHandle:
    """One execution. Iterate over it for its events, or `wait` for its end.

    A foreground cell (`AsyncSandbox.stream_code`) is cancelled if it still runs when the
    handle is closed; one in the background runs on. Reading from several tasks at once is
    not supported; each can have a handle of its own from `AsyncSandbox.attach_execution`.
    """

    def __init__(
        self,
        sandbox: AsyncSandbox,
        connection: AsyncConnection,
        subscription: AsyncSubscription,
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

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ExecutionEvent:
        """The next event, after the callbacks for it.

        Where `wait` raises, this does so after the last event.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self.done:
            self._check_end()
            raise StopAsyncIteration
        return await self._next(None)

    async def wait(self, timeout: float | None = None) -> Execution:  # noqa: ASYNC109
        """Read to the end.

        ``timeout`` seconds from now `TimeoutException` is raised, and the cell runs on.
        Raises `ExecutionTimeoutException` if the cell was stopped by its own time-out, and
        `ConnectionLostException` if it was stopped because the connection was lost.
        """
        until = None if timeout is None else self._connection.loop.time() + timeout
        while not self.done:
            await self._next(until)
        self._check_end()
        return self.execution

    async def begin(self, open_timeout: float | None) -> Self:
        """Wait until the sandbox has taken the cell, or raise why it has not."""
        until = None if open_timeout is None else self._connection.loop.time() + open_timeout
        try:
            self._first = await self._receive(until)
            if self._first is None:
                raise RequestTimeoutException
        except BaseException:
            await self.close()
            raise
        return self

    async def cancel(self) -> None:
        """Have the cell stopped. Does not wait: `wait` tells what became of it."""
        await self._connection.send(self._subscription.course.cancel())

    async def close(self) -> None:
        """Hear no more of it. A foreground cell that still runs is cancelled."""
        self._subscription.close()
        if not self.done and not self._background:
            await self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, done={self.done})"

    def _check_end(self) -> None:
        if self.execution.cause is Cause.TIMEOUT:
            raise ExecutionTimeoutException(self.execution, self._timeout)
        if self.execution.cause is Cause.DISCONNECT and not self._background:
            raise ConnectionLostException.for_a_while(self.execution)

    async def _next(self, until: float | None) -> ExecutionEvent:
        event = await self._receive(earlier(until, self._deadline))
        if event is not None:
            return event
        if self._deadline is None or self._connection.loop.time() < self._deadline:
            raise TimeoutException(f"Execution '{self.id}' has not ended yet; it runs on")
        await self._stop()
        raise ExecutionTimeoutException(self.execution, self._timeout)

    async def _receive(self, until: float | None) -> ExecutionEvent | None:
        """The next event, after its callback; None if there is none by then."""
        try:
            async with asyncio.timeout_at(until):
                event = await self._subscription.receive()
        except TimeoutError:
            return None
        except ConnectionLostException as lost:
            if await self._sandbox._is_gone():
                raise SandboxKilledException from lost
            raise
        call = self._collector.take(event)
        if call is not None:
            answer = await settle(call[0](call[1]))
            if isinstance(event, InputRequest):
                line = self._subscription.course.answer(input_line(answer))
                await self._connection.send(line)
        return event

    async def _stop(self) -> None:
        """Cancel, and listen a little longer for what it does to the kernel."""
        await self.cancel()
        until = self._connection.loop.time() + STOP_SECONDS
        while not self.done and await self._receive(until) is not None:
            pass
