"""What a machine really gives to a sandbox, seen as a user sees it.

``python -m tests.machine [--restart COMMAND] [--patience SECONDS]`` goes through a running host,
the one that ``E2B_API_URL`` and ``E2B_API_KEY`` name: limits, pause and end of sandboxes, and
with ``--restart`` their life across a restart of the host by that command (such as ``systemctl
restart code-interpreter``). It prints one line for each thing it saw and judges none: what has
to hold depends on the machine, and is what ``code-interpreter doctor`` says there.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from e2b import SandboxException

from code_interpreter import Sandbox

LIMITS: dict[str, Any] = {"memory_mb": 400, "cpu_count": 0.5, "disk_mb": 256}
ID = "import os; os.getuid(), open('/proc/self/uid_map').read().split()"
MEMORY = "kept = []\nfor _ in range(100): kept.append(bytearray(10_000_000))"
PROCESSES = """
import os, signal, time
made = []
try:
    for _ in range(3000):
        pid = os.fork()
        if not pid:
            time.sleep(600), os._exit(0)
        made.append(pid)
except OSError as error:
    print(error)
for pid in made:
    os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)
len(made)"""
CPU = """
import time
begin, used = time.monotonic(), time.process_time()
while time.monotonic() < begin + 4: pass
round((time.process_time() - used) / (time.monotonic() - begin), 2)"""
DISK = """
import os
written = 0
with open('big', 'wb', buffering=0) as file:
    try:
        while written < 600 << 20:
            written += file.write(bytes(1 << 20))
    except OSError as error:
        print(error)
os.remove('big')
written >> 20"""
CLOCK = """
import threading, time
ticks = 0
def count():
    global ticks
    while True: ticks += 1; time.sleep(0.05)
threading.Thread(target=count, daemon=True).start()"""


class Walk:
    """Through one sandbox after another; ``patience``: seconds for each request."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._begin = time.monotonic()

    def say(self, what: str, look: Callable[[], object]) -> None:
        begin = time.monotonic()
        try:
            seen = look()
        except (SandboxException, subprocess.SubprocessError, OSError) as error:
            seen = f"{type(error).__name__}: {error}"
        print(f"{begin - self._begin:7.1f} {time.monotonic() - begin:6.2f} s  {what}: {seen}")

    def create(self, **limits: Any) -> Sandbox:
        return Sandbox.create(timeout=24 * 3600, request_timeout=self._patience, **limits)

    def cell(self, box: Sandbox, code: str) -> Callable[[], object]:
        def look() -> object:
            seen = box.run_code(code, timeout=self._patience, request_timeout=self._patience)
            said = "".join(seen.logs.stdout).strip()
            if seen.error is not None:
                return f"{seen.error.name}: {seen.error.value}"
            return seen.text, said

        return look

    def limits(self) -> dict[str, Any]:
        """Those that the host gives."""
        given: dict[str, Any] = {}
        for name, value in LIMITS.items():
            self.say(f"create({name}={value})", partial(self._try_limit, name, value, given))
        return given

    def _try_limit(self, name: str, value: float, given: dict[str, Any]) -> bool:
        box = self.create(**{name: value})
        given[name] = value
        return box.kill()

    def inside(self, box: Sandbox) -> None:
        self.say("first cell", self.cell(box, "6 * 7"))
        self.say("accounts", self.cell(box, ID))
        self.say("sudo", lambda: box.commands.run("sudo id -un", timeout=self._patience).stdout)
        self.say("memory, 1 GB in steps", self.cell(box, MEMORY))
        self.say("processes, of 3000", self.cell(box, PROCESSES))
        self.say("cores that a loop gets", self.cell(box, CPU))
        self.say("disk, MiB of 600", self.cell(box, DISK))
        self.say("a cell after all that", self.cell(box, "1 + 1"))

    def paused(self, box: Sandbox) -> None:
        self.say("a thread that counts", self.cell(box, CLOCK))
        self.say("pause", box.pause)
        time.sleep(3)
        self.say("resume", lambda: box.connect(timeout=24 * 3600).sandbox_id)
        self.say("its count goes on", self.cell(box, "time.sleep(1); ticks > 5"))

    def restarted(self, box: Sandbox, command: str) -> None:
        self.say(command, lambda: subprocess.run(shlex.split(command), check=True).returncode)
        self.say("host answers again", self._until_answered)
        self.say("is running", lambda: box.is_running(request_timeout=self._patience))
        self.say("variables", self.cell(box, "ticks > 5"))

    def _until_answered(self) -> str:
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            try:
                return f"{len(Sandbox.list().next_items())} sandboxes"
            except Exception:  # whatever a client says while nobody listens
                time.sleep(0.1)
        return "never"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restart", metavar="COMMAND")
    parser.add_argument("--patience", metavar="SECONDS", type=float, default=60.0)
    arguments = parser.parse_args()
    walk = Walk(arguments.patience)
    made: list[Sandbox] = []
    given = walk.limits()
    walk.say(f"create({', '.join(given)})", lambda: made.append(walk.create(**given)))
    for box in made:
        walk.inside(box)
        walk.paused(box)
        if arguments.restart:
            walk.restarted(box, arguments.restart)
        walk.say("pause", box.pause)
        walk.say("kill while paused", box.kill)
    walk.say("left", lambda: Sandbox.list().next_items())


if __name__ == "__main__":
    main()
