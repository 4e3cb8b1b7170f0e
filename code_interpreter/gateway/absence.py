"""Stands in for a client whose connection broke in the middle of a cell.

JupyterLab and VS Code come back after a broken connection under the same ``session_id``, and
wait for what their cells said meanwhile: without it they show them as running for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from code_interpreter.gateway.message import KernelMessage

if TYPE_CHECKING:
    from code_interpreter.gateway.listeners import Listener

KEPT_BYTES = 1 << 20
"""Of messages; beyond that only those are kept that tell of ends."""
KEPT_MESSAGES = 10_000
_ENDS = frozenset({"execute_reply", "status", "error"})


class Absent:
    def __init__(self, requests: frozenset[str]) -> None:
        """``requests``: ids of what the client has asked, and has no answer to."""
        self._requests = requests | {""}  # the kernel's own end belongs to no request
        self._kept: list[tuple[str, KernelMessage]] = []
        self._bytes = 0

    def hear(self, channel: str, message: KernelMessage) -> None:
        if message.parent_id not in self._requests or len(self._kept) >= KEPT_MESSAGES:
            return
        if message.type in _ENDS or self._bytes + message.size <= KEPT_BYTES:
            self._kept.append((channel, message))
            self._bytes += message.size

    def tell(self, listener: Listener) -> None:
        for channel, message in self._kept:
            listener.hear(channel, message)
