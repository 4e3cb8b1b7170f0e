"""Whether the sandbox ran out of memory, and how much it may use: from its control groups.

Without them (no controller on this host) the machine's own count is looked at: a kill at
the time of such an event is taken for one of ours.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from code_interpreter.gateway.kernel_end import OutOfMemory

_NO_LIMIT = 1 << 60


class MemoryGroup:
    """The box's memory group: ``memory`` is version 1 (memory.rst), ``unified`` is 2."""

    def __init__(self, state_directory: Path) -> None:
        self._groups = state_directory / "cgroup"

    def kills(self) -> int:
        """How often something was killed for want of memory; 0 if the system does not tell."""
        own = self._count("unified/memory.events", "memory/memory.oom_control")
        return self._in_machine() if own is None else own

    def shortage(self) -> OutOfMemory:
        limit = self._number("memory/memory.limit_in_bytes", "unified/memory.max")
        # Version 2 has it since Linux 5.19; what is used now, after the kill, would be too little.
        peak = self._number("memory/memory.max_usage_in_bytes", "unified/memory.peak")
        return OutOfMemory(None if limit is None or limit > _NO_LIMIT else limit, peak)

    def _count(self, *names: str) -> int | None:
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                return _field((self._groups / name).read_text())
        return None

    def _number(self, *names: str) -> int | None:
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                return int((self._groups / name).read_text())
        return None

    def _in_machine(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return _field(Path("/proc/vmstat").read_text())
        return 0


def _field(text: str) -> int:
    """The number after ``oom_kill``. Raises ValueError where there is none."""
    words = text.split()
    return int(words[words.index("oom_kill") + 1])
