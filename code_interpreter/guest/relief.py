"""Room in a box that is full of processes which nobody can end any more.

What a kernel has started ends with it, but for what has left its process group (setsid(2)):
servers are meant to live on. A bomb may leave as well, and goes on until nothing new can be
started. So once a kernel has ended, what was left behind is looked at for as long as it
grows; when it takes most of what the box may have, all of it is ended. Left behind is what
has lost its parent: its own is init now.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

MOST_LEFT = 0.75
"""Part of all processes and threads that may be left behind."""
MOST_BUSY = 0.2
"""The same of those that would run at once, as no server's do."""
LOOK_SECONDS = 0.5
PATIENCE = 4
"""Looks without anything new, until nobody looks any more."""
DEADLINE = 2.0
"""Seconds; init does nothing else meanwhile."""
_INIT = 1
_SIGKILL_IS_PENDING = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True)
class Task:
    """A process, as proc_pid_stat(5) has it."""

    pid: int
    parent: int
    group: int
    threads: int
    ends: bool
    """It is dead, or about to be."""
    busy: bool
    """It runs, would run, or waits for the disk."""

    @classmethod
    def of(cls, line: str) -> Task:
        pid, _, rest = line.partition(" ")
        fields = rest.rpartition(")")[2].split()
        ends = fields[0] in "ZX" or int(fields[28]) & _SIGKILL_IS_PENDING != 0
        return cls(
            int(pid), int(fields[1]), int(fields[2]), int(fields[17]), ends, fields[0] in "RD"
        )


class Relief:
    """Of one box. ``most``: processes and threads that it may have; None: nobody counts them."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._seen = 0
        self._patience = 0
        self.due: float | None = None
        """When to `look` again, by ``time.monotonic``; None: there is nothing to see."""

    def kernel_ended(self, group: int, spared: Collection[int]) -> int:
        """As `look`, from now on. The kernel's process ``group`` is being ended already."""
        self._seen = 0
        return self.look(spared, group)

    def look(self, spared: Collection[int], group: int | None = None) -> int:
        """How many processes were ended. ``spared``: init's children that are not left behind."""
        left = _left(spared, group)
        if len(left) > self._seen:
            self._seen, self._patience = len(left), PATIENCE
        else:
            self._patience -= 1
        self.due = time.monotonic() + LOOK_SECONDS if self._patience > 0 else None
        if self._most is None or not _is_too_much(left, self._most):
            return 0
        return _end_all(lambda: _left(spared, group))


def _left(spared: Collection[int], group: int | None) -> list[Task]:
    found = left_behind(_all(), spared)
    return [task for task in found if not task.ends and task.group != group]


def _is_too_much(left: list[Task], most: int) -> bool:
    threads = sum(task.threads for task in left)
    busy = sum(task.busy for task in left)
    return threads > MOST_LEFT * most or busy > MOST_BUSY * most


def left_behind(tasks: Collection[Task], spared: Collection[int]) -> list[Task]:
    """Init's children but for ``spared``, and what descends from them."""
    children: dict[int, list[Task]] = {}
    for task in tasks:
        children.setdefault(task.parent, []).append(task)
    waiting = [task for task in children.get(_INIT, []) if task.pid not in spared]
    found = []
    while waiting:
        task = waiting.pop()
        found.append(task)
        waiting += children.get(task.pid, [])
    return found


def _end_all(left: Callable[[], list[Task]]) -> int:
    """Stopped first: each that ends makes room for another one's fork."""
    ended: set[int] = set()
    deadline = time.monotonic() + DEADLINE
    while (tasks := left()) and time.monotonic() < deadline:
        stopped: set[int] = set()
        while fresh := {task.pid for task in tasks} - stopped:
            _send(fresh, signal.SIGSTOP)
            stopped |= fresh
            if time.monotonic() > deadline:
                break
            tasks = left()
        _send(stopped, signal.SIGKILL)
        ended |= stopped
    return len(ended)


def _send(pids: Collection[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _all() -> list[Task]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                found.append(Task.of(file.read()))
    return found
