"""The logs of sandboxes' supervisors, kept small.

They are files of the host, beyond any sandbox's disk limit, and user code can make a
gateway say a lot: with every message that its kernel misshapes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

MOST_BYTES = 4 << 20
KEPT_BYTES = 256 << 10
"""Of the end of a log that has become too large."""
PERIOD = 5.0
"""Seconds between two looks."""
_NOTE = b"[the beginning of this log was removed: it had become too large]\n"


async def keep_small(run_directory: Path, period: float = PERIOD) -> None:
    """Until cancelled, of every sandbox with a directory below ``run_directory``."""
    while True:
        await asyncio.to_thread(shorten_all, run_directory)
        await asyncio.sleep(period)


def shorten_all(run_directory: Path) -> None:
    for log in run_directory.glob("*/box.log"):
        with contextlib.suppress(OSError):  # its sandbox ends just now
            shorten(log)


def shorten(log: Path) -> None:
    """If it is too large. Supervisors append, so they write on at the new end."""
    if log.stat().st_size <= MOST_BYTES:
        return
    with log.open("r+b") as file:
        file.seek(-KEPT_BYTES, os.SEEK_END)
        kept = file.read(KEPT_BYTES).partition(b"\n")[2]
        file.truncate(0)
        file.seek(0)
        file.write(_NOTE + kept)
