"""Naming a process for good: a pid alone may come back as somebody else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """Field 22 of ``/proc/<pid>/stat`` (proc(5)), or None if there is no such process."""
    try:
        with Path(f"/proc/{pid}/stat").open("rb", buffering=0) as file:
            stat = file.read()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def is_alive(pid: int, ticks: int) -> bool:
    return start_ticks(pid) == ticks


async def wait_for_exit(pid: int, ticks: int) -> None:
    """Return when the process is gone. It need not be a child."""
    if not is_alive(pid, ticks):  # 0, the pid of no process, means something else to the kernel
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    try:
        if not is_alive(pid, ticks):
            return
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)
