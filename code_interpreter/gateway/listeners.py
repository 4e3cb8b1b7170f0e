"""Clients that speak Jupyter's own protocol to a context's kernel, beside its cells."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Protocol

from code_interpreter.gateway.absence import Absent
from code_interpreter.gateway.message import KernelMessage, made_message

MAX_ASKED = 1000
"""Requests whose answers are awaited; some kinds never get one."""
MAX_WAITING = 100
"""Messages kept for a kernel that is being started; of more, the oldest go."""
MAX_ABSENT = 20
"""Clients that may come back; of more, those that left first are forgotten."""


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
        self._asked: OrderedDict[str, Listener] = OrderedDict()
        self._cells: dict[str, set[str]] = {}
        """Cells of theirs that have not ended, and what has come of their ends."""
        self._waiting: deque[tuple[Listener, ClientMessage]] = deque(maxlen=MAX_WAITING)
        self._sessions: dict[str, Listener] = {}
        """The connection that each client has now."""
        self._absent: OrderedDict[str, Absent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all) - len(self._absent)

    @property
    def run_cells(self) -> bool:
        """A cell of theirs has not ended."""
        return bool(self._cells)

    def add(self, listener: Listener, session: str = "") -> None:
        """``session`` names a client that may have left, and is told what it has missed."""
        self._all.add(listener)
        if not session:
            return
        self._sessions[session] = listener
        absent = self._absent.pop(session, None)
        if absent is not None:
            self._replace(absent, listener)
            absent.tell(listener)

    def remove(self, listener: Listener, session: str = "") -> None:
        self._all.discard(listener)
        if not session:
            return
        if self._sessions.get(session) is not listener:  # it is back already
            self._replace(listener, self._sessions.get(session))
            return
        del self._sessions[session]
        cells = frozenset(key for key in self._cells if self._asked.get(key) is listener)
        if cells:
            absent = self._absent[session] = Absent(cells)
            self._all.add(absent)
            self._replace(listener, absent)
        while len(self._absent) > MAX_ABSENT:
            self._all.discard(self._absent.popitem(last=False)[1])

    def _replace(self, old: Listener, new: Listener | None) -> None:
        """``new`` hears what ``old`` has asked for."""
        self._all.discard(old)
        for key, asker in self._asked.items():
            if asker is old and new is not None:
                self._asked[key] = new

    def wait(self, listener: Listener, message: ClientMessage) -> None:
        """Keep a message until there is a kernel."""
        self._waiting.append((listener, message))

    def take_waiting(self) -> list[tuple[Listener, ClientMessage]]:
        """The messages that wait, of those who are still there."""
        waiting = [each for each in self._waiting if each[0] in self._all]
        self._waiting.clear()
        return waiting

    def asked(self, listener: Listener, message: ClientMessage) -> None:
        """``listener`` has sent this to the kernel."""
        if message.channel != "stdin":
            self._asked[message.id] = listener
        if message.is_cell:
            self._cells[message.id] = set()
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)

    def hear(self, channel: str, message: KernelMessage) -> bool:
        """Pass a message on; True if it belongs to a request of theirs.

        Output is everybody's; replies and questions are for who asked.
        """
        self._note_end(message)
        asker = self._asked.get(message.parent_id)
        if channel == "iopub":
            for listener in list(self._all):
                listener.hear(channel, message)
        elif asker in self._all:
            asker.hear(channel, message)
        return asker is not None

    def _note_end(self, message: KernelMessage) -> None:
        """A cell ends with its reply and with ``idle``, which come in any order."""
        seen = self._cells.get(message.parent_id)
        if seen is None:
            return
        if message.type == "execute_reply":
            seen.add("reply")
        elif message.content.get("execution_state") == "idle":
            seen.add("idle")
        if len(seen) == 2:
            del self._cells[message.parent_id]

    def kernel_ended(self, *, tell: bool) -> None:
        self._asked.clear()
        self._cells.clear()
        if tell:
            self._tell("restarting")

    def kernel_failed(self) -> None:
        """There is no kernel, and none is being started."""
        if self._waiting:
            self._waiting.clear()
            self._tell("dead")

    def _tell(self, state: str) -> None:
        message = made_message("status", {"execution_state": state})
        for listener in list(self._all):
            listener.hear("iopub", message)
