"""Telling a stream that its client has gone.

A quiet stream sends nothing, so nothing fails when nobody is there any more: whoever
serves one asks `current` for word of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from starlette.types import Message, Receive


class Departure:
    """Of the client of one request; wraps the request's ``receive``."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._calls: list[Callable[[], None]] = []

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            for call in self._calls:
                call()
        return message

    @contextmanager
    def calls(self, call: Callable[[], None]) -> Iterator[None]:
        """Within it, ``call`` is called when the client goes away."""
        self._calls.append(call)
        try:
            yield
        finally:
            self._calls.remove(call)


current: ContextVar[Departure] = ContextVar("departure")
