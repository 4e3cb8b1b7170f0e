"""Pausing a box by signals, where there is no cgroup freezer.

What user code had stopped itself (a job of a shell) is noted, and stays stopped.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil

from code_interpreter.host.data_directory import write_atomically
from code_interpreter.host.processes import is_alive, start_ticks
from code_interpreter.host.runtimes.base import Box, RuntimeFailure

STOP_DEADLINE = 5.0
"""Seconds until every process of a box stands still."""
_FILE = "stopped.json"
_STILL = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)


def stop(box: Box) -> None:
    """SIGSTOP for every process. Raises `RuntimeFailure`; then all go on."""
    note = box.run_directory / _FILE
    stopped: dict[int, int] = {}
    deadline = time.monotonic() + STOP_DEADLINE
    while running := [each.pid for each in tree(box) if _runs(each)]:
        # Parents first: they start no others, and do not see their children stop.
        found = {pid: ticks for pid in reversed(running) if (ticks := start_ticks(pid)) is not None}
        stopped |= found
        # Noted first: a host that dies from here on leaves to the next one what it has stopped.
        _write(note, stopped, box)
        for pid, ticks in found.items():
            _send(pid, ticks, signal.SIGSTOP)
        if time.monotonic() > deadline:
            go_on(box)
            raise RuntimeFailure(f"processes do not stop: {running}")
        time.sleep(0.001)


def go_on(box: Box) -> None:
    """SIGCONT for every process that `stop` has stopped, children first.

    Raises `RuntimeFailure`; then the note of what was stopped is kept.
    """
    if not is_alive(box.pid, box.start_ticks):
        raise RuntimeFailure(f"sandbox {box.sandbox_id} has ended")
    note = box.run_directory / _FILE
    try:
        stopped = [(int(pid), int(ticks)) for pid, ticks in json.loads(note.read_text())]
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as error:
        raise RuntimeFailure(f"{note} cannot be read: {error}") from error
    held = [pid for pid, ticks in reversed(stopped) if not _send(pid, ticks, signal.SIGCONT)]
    if held:
        raise RuntimeFailure(f"processes that this host may not continue: {held}")
    note.unlink()


def _write(note: Path, stopped: dict[int, int], box: Box) -> None:
    try:
        write_atomically(note, json.dumps(list(stopped.items())))
    except OSError as error:
        go_on(box)
        raise RuntimeFailure(f"{note} cannot be written: {error}") from error


def _send(pid: int, ticks: int, number: signal.Signals) -> bool:
    """Whether the process has the signal, or is gone."""
    try:
        if is_alive(pid, ticks):
            os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def tree(box: Box) -> list[psutil.Process]:
    """The box's processes, each before the one that started it. Raises `RuntimeFailure`."""
    if not is_alive(box.pid, box.start_ticks):
        raise RuntimeFailure(f"sandbox {box.sandbox_id} has ended")
    try:
        root = psutil.Process(box.pid)
        return [*reversed(root.children(recursive=True)), root]
    except psutil.NoSuchProcess:
        raise RuntimeFailure(f"sandbox {box.sandbox_id} has ended") from None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in _STILL
    except psutil.NoSuchProcess:
        return False
