"""Whether this machine can make a sandbox: one is made as a host makes it, and ended at once.

It has everything of a sandbox but packages, so nothing here has to be inferred from
versions: the view, the two user namespaces, the layers, the control groups with limits, the
disk and the system-call filter are the runtime's own.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from code_interpreter.host import templates
from code_interpreter.host.facts import read
from code_interpreter.host.runtimes.base import (
    Box,
    Isolation,
    Limits,
    RuntimeFailure,
    SandboxSpec,
)
from code_interpreter.host.runtimes.namespaces import NamespacesRuntime

DEADLINE = 20.0
"""Seconds for the making of it."""
_MIB = 1024 * 1024
_LIMITS = Limits(memory_bytes=256 * _MIB, cpu_count=0.5, pids=100, disk_bytes=64 * _MIB)


@dataclass(frozen=True, slots=True)
class Trial:
    isolation: Isolation
    seconds: float = 0.0
    refused: str = ""
    """What the machine refused, in its own words; "" where a sandbox was made."""

    @property
    def made(self) -> bool:
        return not self.refused


def try_out(directory: Path, *, memory_reserve: int, slowness: float = 1.0) -> Trial:
    """Make a sandbox in ``directory``, a host's data directory, and leave nothing of it.

    ``slowness``: how many times as long as elsewhere it may take.
    """
    if sys.platform != "linux":
        return Trial(Isolation("", (), ()), refused="sandboxes need Linux")
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix="doctor-") as place:
            return asyncio.run(_try_out(Path(place), memory_reserve, slowness))
    except (OSError, RuntimeFailure) as error:
        return Trial(Isolation("", (), ()), refused=_words(error, slowness))


async def _try_out(place: Path, memory_reserve: int, slowness: float) -> Trial:
    """Raises `RuntimeFailure` and OSError where the runtime cannot even be set up."""
    template = templates.make_bare(place / "template")
    runtime = NamespacesRuntime(
        place, template, memory_reserve=memory_reserve, fork_server=False, slowness=slowness
    )
    isolation = runtime.isolation()
    try:
        begin = time.monotonic()
        async with asyncio.timeout(DEADLINE * slowness):
            await runtime.start()
            box = await runtime.create(
                SandboxSpec("doctor", template.name, runtime.enforceable(_LIMITS))
            )
        seconds = time.monotonic() - begin
        try:
            return Trial(isolation, seconds, _what_it_lacks(runtime, box))
        finally:
            await runtime.kill(box)
    except (OSError, RuntimeFailure) as error:
        return Trial(isolation, refused=_words(error, slowness))
    finally:
        await runtime.stop()


def _words(error: OSError | RuntimeFailure, slowness: float) -> str:
    if isinstance(error, TimeoutError):  # which has no words of its own
        return (
            f"not ready after {DEADLINE * slowness:g} seconds: is this machine very busy? Then try "
            "again; is it very slow? Then set CODE_INTERPRETER_SLOWNESS to 2 or more"
        )
    return str(error) or repr(error)


def _what_it_lacks(runtime: NamespacesRuntime, box: Box) -> str:
    if _filters(box.pid) <= _filters("self"):
        return "it has no system-call filter"
    if not runtime.holds(box):
        return "it is not in its control groups"
    return ""


def _filters(process: int | str) -> int:
    """How many seccomp filters a process has (proc(5)); since Linux 5.9."""
    status = (read(f"/proc/{process}/status") or "").partition("Seccomp_filters:")[2].split()
    return int(status[0]) if status else 0
