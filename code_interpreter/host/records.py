"""What the host knows about a sandbox, and the states that it goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from code_interpreter.host.runtimes.base import Box, Limits


class Phase(StrEnum):
    CREATING = "creating"
    """A box may exist under this id; nobody was told of it yet."""
    POOLED = "pooled"
    """Ready, and waiting to be taken."""
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    ENDING = "ending"


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.CREATING: frozenset({Phase.POOLED, Phase.RUNNING, Phase.ENDING}),
    Phase.POOLED: frozenset({Phase.RUNNING, Phase.ENDING}),
    Phase.RUNNING: frozenset({Phase.PAUSING, Phase.ENDING}),
    Phase.PAUSING: frozenset({Phase.PAUSED, Phase.RUNNING, Phase.ENDING}),
    Phase.PAUSED: frozenset({Phase.RESUMING, Phase.ENDING}),
    Phase.RESUMING: frozenset({Phase.RUNNING, Phase.PAUSED, Phase.ENDING}),
    Phase.ENDING: frozenset(),
}
"""From a phase to those that may come next. Removing the record ends every sandbox."""

VISIBLE = frozenset({Phase.RUNNING, Phase.PAUSING, Phase.PAUSED, Phase.RESUMING})
"""Phases in which a caller may know of the sandbox."""

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """One sandbox. All of it is stored; a new one replaces it at every change."""

    sandbox_id: str
    template: str
    phase: Phase
    limits: Limits = field(default_factory=Limits)
    box: Box | None = None
    started_at: datetime = EPOCH
    end_at: datetime = EPOCH
    timeout: int = 0
    """Seconds that were asked for at the start; an automatic resume gives them again."""
    access_token: str = field(default="", repr=False)
    traffic_token: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    auto_pause: bool = False
    auto_resume: bool = False
    allow_internet_access: bool | None = None
    network: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    request_digest: str | None = None

    def moved(self, phase: Phase) -> Record:
        """The record in another phase. Raises ValueError where `TRANSITIONS` has no way."""
        if phase not in TRANSITIONS[self.phase]:
            raise ValueError(f"a sandbox that is {self.phase} cannot become {phase}")
        return replace(self, phase=phase)

    def lasting(self, seconds: int) -> Record:
        """The record with its end so many seconds from now."""
        return replace(self, end_at=now() + timedelta(seconds=seconds))

    @property
    def live_box(self) -> Box:
        """The box of a record that is past CREATING."""
        assert self.box is not None
        return self.box


def now() -> datetime:
    return datetime.now(UTC)
