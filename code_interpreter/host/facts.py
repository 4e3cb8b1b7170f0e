"""What is known about a machine: one thing, how it stands, and what would improve it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from code_interpreter.host.containers import container, whole_way

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
    if container():
        return whole_way()
    return "run the host as root of the machine" if os.getuid() == 0 else f"sudo {serve()}"


def serve() -> str:
    """The command that starts this installation's host, in any directory and for any user."""
    program = Path(sys.executable).with_name("code-interpreter")
    command = str(program) if program.exists() else f"{sys.executable} -m code_interpreter.cli.main"
    return f"{command} serve"


def works(*command: str) -> bool:
    """Whether a command runs and succeeds."""
    try:
        result = subprocess.run(command, capture_output=True, timeout=PROBE_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0
