"""Settings of the kernel that are counted for the whole machine, and too small for hundreds
of sandboxes. Only root may change them; for others `code-interpreter doctor` names them.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

LEAST = {
    "fs/inotify/max_user_instances": 131072,
    "fs/inotify/max_user_watches": 1 << 24,
    "fs/file-max": 1 << 32,
    "kernel/pid_max": 4194304,
    "kernel/pty/max": 1 << 20,
}
"""Name under /proc/sys → what it should be at least. Memory of files and processes counts
towards each sandbox's memory limit, so a large number gives nothing away."""
_SETTINGS = Path("/proc/sys")
_log = logging.getLogger(__name__)


def raise_all() -> None:
    """Raise what is too small, as far as this user may."""
    for name in too_small():
        with contextlib.suppress(OSError):
            (_SETTINGS / name).write_text(str(LEAST[name]))
            _log.info("raised %s to %d", name.replace("/", "."), LEAST[name])


def too_small() -> list[str]:
    """Names of the settings below what hundreds of sandboxes may need."""
    return [name for name, least in LEAST.items() if (value(name) or least) < least]


def value(name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((_SETTINGS / name).read_text())
    return None


def most_tasks() -> int:
    """Processes and threads that boxes may have together; an eighth is left to the machine."""
    limits = [value("kernel/pid_max"), value("kernel/threads-max")]
    return min(limit for limit in (*limits, 4194304) if limit is not None) * 7 // 8
