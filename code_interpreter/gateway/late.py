"""Output that comes when no cell runs: kept for the next one, within bounds."""

from __future__ import annotations

from collections import deque

from code_interpreter.gateway.message import KernelMessage

MAX_MESSAGES = 1000
MAX_BYTES = 16 << 20


class LateOutput:
    """The latest messages; older ones are dropped when there are too many."""

    def __init__(self) -> None:
        self._messages: deque[KernelMessage] = deque()
        self._bytes = 0

    def add(self, message: KernelMessage) -> None:
        self._messages.append(message)
        self._bytes += message.size
        while len(self._messages) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            self._bytes -= self._messages.popleft().size

    def take(self) -> list[KernelMessage]:
        """What was kept; nothing is any more."""
        taken = list(self._messages)
        self.clear()
        return taken

    def clear(self) -> None:
        self._messages.clear()
        self._bytes = 0
