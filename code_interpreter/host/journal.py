"""What happened to each sandbox, for ``GET /sandboxes/{id}/logs``. In memory, bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from code_interpreter.host.records import now

EVENTS_KEPT = 200
"""For each sandbox; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Event:
    message: str
    level: str = "info"
    fields: dict[str, str] = field(default_factory=dict)
    timestamp: datetime = field(default_factory=now)


class Journal:
    def __init__(self) -> None:
        self._events: dict[str, deque[Event]] = {}

    def note(self, sandbox_id: str, message: str, level: str = "info", **fields: str) -> None:
        events = self._events.setdefault(sandbox_id, deque(maxlen=EVENTS_KEPT))
        events.append(Event(message, level, fields))

    def of(self, sandbox_id: str) -> Sequence[Event]:
        """Oldest first."""
        return tuple(self._events.get(sandbox_id, ()))

    def forget(self, sandbox_id: str) -> None:
        self._events.pop(sandbox_id, None)
