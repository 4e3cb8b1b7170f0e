"""Pausing a box by signals, where there is no cgroup freezer.

What user code had stopped itself (a job of a shell) is noted, and stays stopped.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time

import psutil

from code_interpreter.host.processes import is_alive
from code_interpreter.host.runtimes.base import Box, RuntimeFailure

STOP_DEADLINE = 5.0
"""Seconds until every process of a box stands still."""
_FILE = "stopped.json"
_STILL = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)


def stop(box: Box) -> None:
    """SIGSTOP for every process. Raises `RuntimeFailure`; then all go on."""
    note = box.run_directory / _FILE
    stopped: dict[int, float] = {}
    deadline = time.monotonic() + STOP_DEADLINE
    while running := [each for each in tree(box) if _runs(each)]:
        # Parents first: they start no others, and do not see their children stop.
        for process in reversed(running):
            with contextlib.suppress(psutil.NoSuchProcess):
                stopped[process.pid] = process.create_time()
                process.send_signal(signal.SIGSTOP)
        note.write_text(json.dumps(list(stopped.items())))
        if time.monotonic() > deadline:
            go_on(box)
            raise RuntimeFailure(f"processes do not stop: {[each.pid for each in running]}")
        time.sleep(0.001)


def go_on(box: Box) -> None:
    """SIGCONT for every process that `stop` has stopped, children first."""
    note = box.run_directory / _FILE
    try:
        stopped = dict(json.loads(note.read_text()))
    except FileNotFoundError:
        return
    for process in tree(box):
        with contextlib.suppress(psutil.NoSuchProcess):
            if stopped.get(process.pid) == process.create_time():
                process.send_signal(signal.SIGCONT)
    note.unlink()


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
