"""What must outlive the gateway's process: contexts with their kernels, and ids of executions.

Kept in the state directory, which only supervisors may read: kernels' keys are in it.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MAX_LINES = 100_000
"""Executions that are remembered, so that none runs a cell twice."""


@dataclass(frozen=True, slots=True)
class KernelRecord:
    pid: int
    start_ticks: int
    """Field 22 of ``/proc/<pid>/stat``: with the pid it names a process for good."""
    directory: str
    connection: dict[str, Any]
    warm: bool


@dataclass(frozen=True, slots=True)
class ContextRecord:
    id: str
    language: str
    cwd: str
    default: bool
    kernel: KernelRecord | None


@dataclass(frozen=True, slots=True)
class Record:
    """What a gateway knows that its successor should."""

    contexts: tuple[ContextRecord, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Ledger:
    def __init__(self, directory: Path) -> None:
        self._record = directory / "gateway.json"
        self._executions = directory / "executions.log"
        self._log: int | None = None
        self._known: dict[str, str] = {}
        """Execution id → id of its context while it has not ended, else empty."""
        self._read_executions()

    def read(self) -> Record:
        """What an earlier gateway of this box wrote."""
        try:
            written = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return Record()
        return Record(tuple(map(_context, written["contexts"])), written["environment"])

    def write(self, record: Record) -> None:
        """Best effort: with a full disk the next gateway knows less."""
        temporary = self._record.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
                file.write(json.dumps(asdict(record)))  # in one piece: json.dump is Python
            temporary.replace(self._record)

    # --- executions -----------------------------------------------------------------------

    def knows(self, execution_id: str) -> bool:
        return execution_id in self._known

    def lost_in(self, execution_id: str) -> str | None:
        """The context in which it was when an earlier gateway died; None if it had ended."""
        return self._known.get(execution_id) or None

    def accepted(self, execution_id: str, context_id: str) -> None:
        self._write(f"+{execution_id} {context_id}\n")
        self._known[execution_id] = context_id
        while len(self._known) > MAX_LINES:
            del self._known[next(iter(self._known))]

    def ended(self, execution_id: str) -> None:
        self._write(f"-{execution_id}\n")
        self._known[execution_id] = ""

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            if self._log is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._log = os.open(self._executions, flags, 0o600)
            os.write(self._log, line.encode())

    def _read_executions(self) -> None:
        try:
            lines = self._executions.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            execution_id, _, context_id = line[1:].partition(" ")
            self._known[execution_id] = context_id
        self._known = dict(list(self._known.items())[-MAX_LINES:])
        text = "".join(f"+{name} {context}\n" for name, context in self._known.items())
        with contextlib.suppress(OSError):
            self._executions.write_text(text)


def _context(fields: dict[str, Any]) -> ContextRecord:
    kernel = fields.pop("kernel")
    return ContextRecord(**fields, kernel=None if kernel is None else KernelRecord(**kernel))


def start_ticks(pid: int) -> int | None:
    """None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
