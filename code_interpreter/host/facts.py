"""What is known about a machine: one thing, how it stands, and what would improve it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

PROBE_DEADLINE = 10.0


class Standing(StrEnum):
    OK = "ok"
    LIMITED = "limited"
    """Sandboxes can be made, and lack something."""
    MISSING = "missing"
    """Isolated sandboxes cannot be made."""
    UNUSED = "unused"
    """Nothing here uses it yet."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about this machine; ``remedy`` is a command or a short instruction."""

    name: str
    standing: Standing
    detail: str
    remedy: str = ""


def ok(name: str, detail: str) -> Fact:
    return Fact(name, Standing.OK, detail)


def read(path: str | Path) -> str | None:
    """The file's text without the line break at its end; None if it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def as_root() -> str:
    """The remedy where more rights would help."""
    own = "run the host as root of the machine" if os.getuid() == 0 else ""
    return own or "sudo code-interpreter serve"


def works(*command: str) -> bool:
    """Whether a command runs and succeeds."""
    try:
        result = subprocess.run(command, capture_output=True, timeout=PROBE_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0
