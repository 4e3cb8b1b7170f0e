"""What a process has used so far, as the system tells it of any process."""

from __future__ import annotations

import os
import re
from pathlib import Path

from code_interpreter.gateway.kernel_end import Usage


def process_seconds(pid: int) -> float | None:
    """CPU seconds of a process and its ended children, from ``/proc/<pid>/stat``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def process_usage(pid: int) -> Usage | None:
    """Its CPU seconds, and the peak of its memory unless it has ended; None if it is gone."""
    seconds = process_seconds(pid)
    if seconds is None:
        return None
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        found = None
    return Usage(seconds, None if found is None else int(found[1]) * 1024)
