"""Whether a process of a sandbox is there."""

from __future__ import annotations

import time

from e2b import Sandbox


def is_alive(box: Sandbox, pid: int) -> bool:
    done = box.commands.run(f"kill -0 {pid} 2>/dev/null && echo yes || echo no", user="root")
    return done.stdout == "yes\n"


def wait_until_dead(box: Sandbox, pid: int) -> None:
    deadline = time.monotonic() + 5
    while is_alive(box, pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
