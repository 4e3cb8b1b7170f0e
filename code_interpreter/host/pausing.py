"""Stopping all processes of a box in memory, and giving back what memory they do not need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from code_interpreter.host import stopping
from code_interpreter.host.cgroups import Cgroups
from code_interpreter.host.runtimes.base import Box, RuntimeFailure
from code_interpreter.host.tasks import Tasks

RECLAIM_DEADLINE = 60.0
"""Seconds that the kernel may look for memory to give back."""
AT_ONCE = 1
"""Boxes whose memory is looked for: it takes a core, and those who wait for a pause come first."""
CANCEL_DEADLINE = 2.0
"""Seconds that a resume waits for the kernel to stop looking."""
_log = logging.getLogger(__name__)


class Pausing:
    """By the cgroup freezer; by SIGSTOP where a box was made without.

    Memory goes back beside the pause, which has ended by then. It is reclaimed by a small
    program, because the kernel can be told to stop only by a signal.
    """

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._tasks = Tasks()
        self._reclaiming: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def pause(self, box: Box) -> None:
        """Returns when nothing of the box runs any more. Raises `RuntimeFailure`."""
        name = box.run_directory.name
        if not self._cgroups.can_freeze(name):
            await asyncio.to_thread(stopping.stop, box)
            return
        try:
            await self._freeze(name, frozen=True)
        except RuntimeFailure:
            with contextlib.suppress(RuntimeFailure):  # what did stop goes on
                await self._freeze(name, frozen=False)
            raise
        file = self._cgroups.reclaim_file(name)
        if file is not None:
            reclaiming = self._tasks.spawn(self._reclaim(name, file), f"memory of {box.sandbox_id}")
            self._reclaiming[name] = reclaiming
            reclaiming.add_done_callback(lambda ended: self._forget(name, ended))

    async def resume(self, box: Box) -> None:
        """Raises `RuntimeFailure`. What was reclaimed comes back when it is used."""
        name = box.run_directory.name
        if not self._cgroups.can_freeze(name):
            await asyncio.to_thread(stopping.go_on, box)
            return
        reclaiming = self._reclaiming.get(name)
        if reclaiming is not None:
            reclaiming.cancel()
            await asyncio.wait({reclaiming}, timeout=CANCEL_DEADLINE)
        # In any case: a host that was killed while it reclaimed has left it allowed.
        self._cgroups.allow_swap(name, allowed=False)
        await self._freeze(name, frozen=False)

    async def close(self) -> None:
        """Paused boxes stay paused."""
        await self._tasks.close()

    def _forget(self, name: str, ended: asyncio.Task[None]) -> None:
        if self._reclaiming.get(name) is ended:
            del self._reclaiming[name]

    async def _freeze(self, name: str, *, frozen: bool) -> None:
        try:
            await asyncio.to_thread(self._cgroups.freeze, name, frozen=frozen)
        except OSError as error:
            raise RuntimeFailure(f"the cgroup freezer failed: {error}") from error

    async def _reclaim(self, name: str, file: Path) -> None:
        async with self._turn:
            await self._reclaim_now(name, file)

    async def _reclaim_now(self, name: str, file: Path) -> None:
        before = self._cgroups.memory_bytes(name) or 0
        self._cgroups.allow_swap(name, allowed=True)
        try:
            await _tell_kernel(file, before)
        finally:
            self._cgroups.allow_swap(name, allowed=False)
        after = self._cgroups.memory_bytes(name) or 0
        _log.info("a paused sandbox gave back %d of %d MiB", (before - after) >> 20, before >> 20)


def has_swap() -> bool:
    """Whether memory that is no file's can leave RAM (proc(5))."""
    with contextlib.suppress(OSError):
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    return False


async def _tell_kernel(file: Path, size: int) -> None:
    """Have the kernel reclaim ``size`` bytes; less if there is not so much, or in the deadline.

    After everybody else's work: the host's own niceness would be inherited.
    """
    command = ("nice", "-n", "39", "sh", "-c", 'echo "$1" > "$0"', str(file), str(size))
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECLAIM_DEADLINE):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
