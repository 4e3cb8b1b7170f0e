"""A runtime without any isolation: a sandbox is a few ordinary processes of this user.

For development on machines without namespaces, and for nothing else. It is never chosen
by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

import psutil

from code_interpreter.host import stopping
from code_interpreter.host.guest_link import GuestLink, GuestUnreachable
from code_interpreter.host.processes import is_alive, start_ticks, wait_for_exit
from code_interpreter.host.runtimes.base import (
    ENVD_SOCKET,
    GATEWAY_SOCKET,
    PORTS_SOCKET,
    Box,
    Isolation,
    Limits,
    PolicyNotEnforceable,
    RuntimeFailure,
    SandboxRuntime,
    SandboxSpec,
)
from code_interpreter.host.runtimes.process_init import ProcessBox
from code_interpreter.host.templates import NAMES, PreparedTemplate, resources

START_DEADLINE = 60.0
"""Seconds until envd and the gateway of a new box answer."""
END_DEADLINE = 10.0
"""Seconds for the processes of a box to be gone after SIGKILL."""
WARNING = (
    "THE RUNTIME 'process' ISOLATES NOTHING: code in a sandbox runs as you, on this machine, "
    "with your files, your network and no limits. Use it for development only."
)
_HOME = "home"
_PID_FILE = "pid"
_LOG_FILE = "log"
_log = logging.getLogger(__name__)


class MachineAsTemplate:
    """The templates of this runtime: there is one, this machine, under every name."""

    def names(self) -> Collection[str]:
        return NAMES

    async def prepare(self, name: str, progress: Callable[[str], None]) -> PreparedTemplate:
        """There is nothing to do."""
        return PreparedTemplate(name, Path("/"))

    async def remove_unused(self) -> None:
        """There is none."""


class ProcessRuntime(SandboxRuntime):
    name = "process"
    cuts_internet = False

    def __init__(self, data_directory: Path) -> None:
        self._run = data_directory / "run"
        self._sandboxes = data_directory / "sandboxes"

    async def start(self) -> None:
        _log.warning(WARNING)

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def create(self, spec: SandboxSpec) -> Box:
        if self.enforceable(spec.limits) != spec.limits:
            raise PolicyNotEnforceable(
                f"the runtime 'process' cannot enforce limits ({spec.limits}): leave them out, or "
                "use the runtime 'namespaces'"
            )
        try:
            box = await self._start(spec)
            await self._until_ready(box)
        except BaseException as error:
            await asyncio.shield(asyncio.to_thread(self._clean, spec.sandbox_id))
            if isinstance(error, OSError):
                raise RuntimeFailure(str(error)) from error
            raise
        return box

    async def kill(self, box: Box) -> None:
        await asyncio.to_thread(self._clean, box.sandbox_id)

    async def adopt(self, box: Box) -> bool:
        return is_alive(box.pid, box.start_ticks)

    async def wait(self, box: Box) -> None:
        await wait_for_exit(box.pid, box.start_ticks)

    async def pause(self, box: Box) -> None:
        await asyncio.to_thread(stopping.stop, box)

    async def resume(self, box: Box) -> None:
        await asyncio.to_thread(stopping.go_on, box)

    def enforceable(self, limits: Limits) -> Limits:
        return Limits()

    def isolation(self) -> Isolation:
        return Isolation(
            tier="none: development only",
            enforced=(),
            missing=("files", "processes", "users", "network", "memory, cpu, pids and disk limits"),
        )

    async def _start(self, spec: SandboxSpec) -> Box:
        home = self._sandboxes / spec.sandbox_id / _HOME
        state = self._sandboxes / spec.sandbox_id / "state"
        run = self._run / spec.sandbox_id
        for directory in (home, state, run):
            await asyncio.to_thread(directory.mkdir, parents=True, mode=0o700)
        plan = ProcessBox(
            home=str(home),
            state_directory=str(state),
            envd_socket=str(run / ENVD_SOCKET),
            gateway_socket=str(run / GATEWAY_SOCKET),
            ports_socket=str(run / PORTS_SOCKET),
            jupyter_path=str(resources("kernels").parent),
        )
        pid = _spawn(plan, run / _LOG_FILE)
        ticks = start_ticks(pid)
        if ticks is None:
            _reap(pid)
            raise RuntimeFailure(_last_words(run))
        (run / _PID_FILE).write_text(f"{pid} {ticks}")
        return Box(spec.sandbox_id, self.name, pid, ticks, run, spec.template)

    async def _until_ready(self, box: Box) -> None:
        ready = asyncio.ensure_future(_healthy(GuestLink(box.run_directory)))
        ended = asyncio.ensure_future(self.wait(box))
        try:
            await asyncio.wait(
                {ready, ended}, timeout=START_DEADLINE, return_when=asyncio.FIRST_COMPLETED
            )
            if not ready.done():
                raise RuntimeFailure(_last_words(box.run_directory))
        finally:
            for task in (ready, ended):
                task.cancel()
            await asyncio.wait({ready, ended})

    def _clean(self, sandbox_id: str) -> None:
        run = self._run / sandbox_id
        named = _read_pid(run)
        if named is not None and is_alive(*named):
            _kill_tree(*named)
        elif named is not None:
            _kill_strays(self._sandboxes / sandbox_id / _HOME)
        for directory in (run, self._sandboxes / sandbox_id):
            shutil.rmtree(directory, ignore_errors=True)


def _spawn(plan: ProcessBox, log: Path) -> int:
    """Start the box's first process, with nothing of the host's environment but its PATH."""
    module = "code_interpreter.host.runtimes.process_init"
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": plan.home,
        "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
    }
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", module, plan.dump()],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(output)


async def _healthy(link: GuestLink) -> None:
    while True:
        with contextlib.suppress(GuestUnreachable):
            return await link.until_healthy()
        await asyncio.sleep(0.02)


def _tree(pid: int) -> list[psutil.Process]:
    """The process and all below it, itself last."""
    try:
        root = psutil.Process(pid)
        return [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return []


def _kill_tree(pid: int, ticks: int) -> None:
    deadline = time.monotonic() + END_DEADLINE
    while is_alive(pid, ticks):
        _kill_once(pid)
        if time.monotonic() > deadline:
            raise RuntimeFailure(f"process {pid} of a sandbox does not end")
        time.sleep(0.005)
    _reap(pid)


def _kill_once(pid: int) -> None:
    """Stop all, so that none starts another meanwhile; then end what is below, the root last.

    The root takes in orphans, so it has to stay until nobody is left below it.
    """
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    tree = _tree(pid)
    below, root = tree[:-1], tree[-1:]
    for process in root if not any(map(_runs, below)) else below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _kill_strays(home: Path) -> None:
    """End what a box left that lost its first process: whatever has this home directory."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(home):
                process.kill()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _read_pid(run: Path) -> tuple[int, int] | None:
    """The box's first process, as `ProcessRuntime._start` noted it."""
    with contextlib.suppress(OSError, ValueError):
        pid, ticks = (run / _PID_FILE).read_text().split()
        return int(pid), int(ticks)
    return None


def _last_words(run: Path) -> str:
    """Why the box did not start: in short for the caller, in full for the host's log."""
    words = ""
    with contextlib.suppress(OSError):
        words = (run / _LOG_FILE).read_text(errors="replace")[-4000:].rstrip()
    _log.error("a sandbox's envd or gateway did not start:\n%s", words)
    last = [line for line in words.splitlines() if not line.startswith("init: ")][-1:]
    return f"envd or the gateway did not start: {''.join(last) or 'they said nothing'}"
