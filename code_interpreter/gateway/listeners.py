"""Clients that speak Jupyter's own protocol to a context's kernel, beside its cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from code_interpreter.gateway.message import KernelMessage, made_message


class Listener(Protocol):
    def hear(self, channel: str, message: KernelMessage) -> None:
        """A message of the kernel for this client."""


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """What a listener sends to the kernel."""

    channel: str
    header: dict[str, Any]
    parent: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: tuple[bytes, ...] = ()

    @property
    def id(self) -> str:
        return str(self.header.get("msg_id", ""))

    @property
    def is_cell(self) -> bool:
        return self.channel == "shell" and self.header.get("msg_type") == "execute_request"


class Listeners:
    """Who listens, and who waits for the answer to what."""

    def __init__(self) -> None:
        self._all: set[Listener] = set()
        self._asked: dict[str, Listener] = {}
        self._cells: set[str] = set()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def run_cells(self) -> bool:
        """A cell of theirs has not ended."""
        return bool(self._cells)

    def add(self, listener: Listener) -> None:
        self._all.add(listener)

    def remove(self, listener: Listener) -> None:
        self._all.discard(listener)

    def asked(self, listener: Listener, message: ClientMessage) -> None:
        """``listener`` has sent this to the kernel."""
        if message.channel != "stdin":
            self._asked[message.id] = listener
        if message.is_cell:
            self._cells.add(message.id)

    def hear(self, channel: str, message: KernelMessage) -> bool:
        """Pass a message on; True if it belongs to a request of theirs.

        Output is everybody's; replies and questions are for who asked.
        """
        asker = self._asked.get(message.parent_id)
        if channel == "iopub":
            for listener in list(self._all):
                listener.hear(channel, message)
        elif asker is not None:
            asker.hear(channel, message)
        if asker is not None and message.content.get("execution_state") == "idle":
            del self._asked[message.parent_id]
            self._cells.discard(message.parent_id)
        return asker is not None

    def kernel_ended(self) -> None:
        self._asked.clear()
        self._cells.clear()
        restarting = made_message("status", {"execution_state": "restarting"})
        for listener in list(self._all):
            listener.hear("iopub", restarting)
