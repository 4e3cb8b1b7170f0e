"""What one release of a client saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seen:
    """``calls``: call → "ok", "absent" or what went wrong."""

    client: str
    version: str
    calls: Mapping[str, str]

    @property
    def failures(self) -> dict[str, str]:
        return {name: came for name, came in self.calls.items() if came not in ("ok", "absent")}
