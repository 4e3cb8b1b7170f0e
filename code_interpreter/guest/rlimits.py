"""Limits that every process of a box carries (getrlimit(2)): they need no control group."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

from code_interpreter.protocol.boxes import OPEN_FILES

SUPERVISORS_FIRST = -10
"""Niceness of the supervisors, where the host is root; that of user code is 0."""
_USER_CODE_AFTER = 5
_NO_CORE = (0, 0)


def limit_open_files() -> None:
    """In init: whatever the host may open, a box's processes get one figure."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def limit_process_memory(size: int | None) -> None:
    """Where nothing limits the box as a whole, one process at least cannot take everything."""
    if size is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


@contextlib.contextmanager
def processes_of_new_namespaces(count: int | None) -> Iterator[None]:
    """All processes and threads of a user namespace that is made in the block, together.

    Since Linux 5.14 a namespace keeps its maker's RLIMIT_NPROC as a limit of its own
    (user_namespaces(7)), so root in it is bound as well, and supervisors are not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if count is not None:
        most = count if hard == resource.RLIM_INFINITY else min(hard, count)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def come_after_supervisors() -> None:
    """User code: no core dumps, which the host's kernel settings would write; and less haste."""
    resource.setrlimit(resource.RLIMIT_CORE, _NO_CORE)
    now = os.getpriority(os.PRIO_PROCESS, 0)
    # A host that was started with nice(1) stays where it is: nobody but root could lower it.
    os.setpriority(os.PRIO_PROCESS, 0, 0 if now < 0 else max(now, _USER_CODE_AFTER))
