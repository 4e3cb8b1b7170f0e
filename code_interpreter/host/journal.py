"""What happened to each sandbox: for its logs, in memory, and as events, which are stored."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from code_interpreter.host.records import Record, now
from code_interpreter.host.store import Store
from code_interpreter.protocol.boxes import TEAM_ID
from code_interpreter.protocol.control import SandboxEvent

EVENTS_KEPT = 200
"""In the log of each sandbox; the oldest go first."""


class Change(StrEnum):
    """In a sandbox's life; E2B's API has these names."""

    CREATED = "created"
    UPDATED = "updated"
    PAUSED = "paused"
    RESUMED = "resumed"
    KILLED = "killed"


_MESSAGES = {
    Change.CREATED: "sandbox started",
    Change.UPDATED: "time-out changed",
    Change.PAUSED: "sandbox paused",
    Change.RESUMED: "sandbox resumed",
}


@dataclass(frozen=True, slots=True)
class Event:
    message: str
    level: str = "info"
    fields: dict[str, str] = field(default_factory=dict)
    timestamp: datetime = field(default_factory=now)


class Journal:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: dict[str, deque[Event]] = {}

    def note(self, record: Record, change: Change) -> None:
        """The record is the one after the change. An end is also the end of the log."""
        event = _event(record, change)
        self._store.add_event(record.sandbox_id, event.type, event.model_dump_json(by_alias=True))
        if change is Change.KILLED:
            self._events.pop(record.sandbox_id, None)
            return
        fields = {"template": record.template} if change is Change.CREATED else {}
        events = self._events.setdefault(record.sandbox_id, deque(maxlen=EVENTS_KEPT))
        events.append(Event(_MESSAGES[change], fields=fields, timestamp=event.timestamp))

    def of(self, sandbox_id: str) -> Sequence[Event]:
        """Oldest first."""
        return tuple(self._events.get(sandbox_id, ()))


def _event(record: Record, change: Change) -> SandboxEvent:
    data: dict[str, object] = {}
    if record.metadata:
        data["sandbox_metadata"] = dict(record.metadata)
    if change is Change.UPDATED:
        data["set_timeout"] = record.end_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return SandboxEvent(
        id=str(uuid.uuid4()),
        type=f"sandbox.lifecycle.{change}",
        event_data=data or None,
        sandbox_build_id=_id_of(record.template),
        sandbox_execution_id=_id_of(record.sandbox_id),
        sandbox_id=record.sandbox_id,
        sandbox_team_id=TEAM_ID,
        sandbox_template_id=record.template,
        timestamp=now(),
    )


def _id_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))
