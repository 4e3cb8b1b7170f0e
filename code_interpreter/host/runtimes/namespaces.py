"""The default runtime: a box is a set of Linux namespaces with a root of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import platform
import signal
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from code_interpreter.host import cgroup_search, kernel_settings
from code_interpreter.host.cgroups import Cgroups
from code_interpreter.host.disks import DiskImages
from code_interpreter.host.hogs import Hogs
from code_interpreter.host.ids import IdGrant, IdKind, id_grant, sandboxes_own_usr
from code_interpreter.host.init_link import ask_init
from code_interpreter.host.pausing import Pausing, has_swap
from code_interpreter.host.processes import is_alive, start_ticks, wait_for_exit
from code_interpreter.host.python_prefix import unneeded
from code_interpreter.host.removal import remove_tree
from code_interpreter.host.runtimes.base import (
    Box,
    Isolation,
    Limits,
    PolicyNotEnforceable,
    RuntimeFailure,
    SandboxRuntime,
    SandboxSpec,
)
from code_interpreter.host.runtimes.forkserver import ForkServerClient
from code_interpreter.host.templates import (
    PreparedTemplate,
    python_is_in_usr,
    resources,
)
from code_interpreter.protocol.boxes import (
    OPEN_FILES,
    PACKAGE,
    PID_FILE,
    BoxRequest,
    Layer,
    Shown,
    ViewConfig,
)

START_DEADLINE = 30.0
"""Seconds for a box to furnish itself and start its supervisors."""
END_DEADLINE = 30.0
"""Seconds for the processes of a box to be gone; hundreds may end at once."""
FIRST_ID = 0x7000_0000
"""Boxes' id ranges start here when the host is root: above every range in use by others."""
ID_STRIDE = 0x2_0000
MOST_RANGES = 2000
_PACKAGE = Path(__file__).resolve().parents[2]
_log = logging.getLogger(__name__)


class NamespacesRuntime(SandboxRuntime):
    """Boxes by fork server. One template serves every name: their files are the same."""

    name = "namespaces"
    shares_memory = True

    def __init__(
        self,
        data_directory: Path,
        template: PreparedTemplate,
        *,
        memory_reserve: int = 0,
        fork_server: bool = True,
        slowness: float = 1.0,
    ) -> None:
        """``memory_reserve``: bytes that all boxes together leave to the machine.

        ``slowness``: how many times as long as elsewhere boxes may take to start and to end.
        """
        self._data = data_directory
        self._template = template
        self._ids = id_grant()
        self._cgroups = cgroup_search.find(f"code-interpreter-{data_digest(data_directory)}")
        config = replace(
            _view_config(data_directory, template, self._ids, warm=fork_server), slowness=slowness
        )
        self._config = config
        self._forks = ForkServerClient(config, data_directory / "forkserver.log")
        self._pausing = Pausing(self._cgroups)
        self._hogs = Hogs(self._cgroups, cores=os.cpu_count() or 1)
        self._ranges: dict[str, int] = {}
        # Hosts on one machine begin at different places: what Linux counts by user is not shared.
        self._first_range = int(data_digest(data_directory), 16) % MOST_RANGES
        self._disks = DiskImages(data_directory)
        self._most_memory = psutil.virtual_memory().total - memory_reserve

    async def start(self) -> None:
        for name in ("sandboxes", "run"):
            (self._data / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cgroups.bound(
            memory_bytes=self._most_memory,
            tasks=kernel_settings.most_tasks(),
            cores=os.cpu_count() or 1,
        )
        self._hogs.start()

    async def warm_up(self) -> None:
        await self._forks.start()

    def stop_making(self) -> None:
        self._forks.give_up()

    async def stop(self) -> None:
        await self._hogs.close()
        await self._pausing.close()
        await self._forks.stop()
        self._cgroups.remove_parents()

    def memory_room(self) -> int | None:
        return self._cgroups.memory_room()

    def memory_bytes(self, box: Box) -> int | None:
        return self._cgroups.memory_bytes(box.run_directory.name)

    def holds(self, box: Box) -> bool:
        """Whether the box is in all of its control groups."""
        return self._cgroups.holds(box.run_directory.name, box.pid)

    def hasten(self) -> None:
        self._hogs.hasten()

    def directory_name(self, sandbox_id: str) -> str:
        return box_name(sandbox_id)

    def enforceable(self, limits: Limits) -> Limits:
        can = self._cgroups.can
        return Limits(
            memory_bytes=limits.memory_bytes if can("memory") else None,
            cpu_count=limits.cpu_count if can("cpu") else None,
            pids=limits.pids if can("pids") or namespaces_count_processes() else None,
            disk_bytes=limits.disk_bytes if self._disks.problem() is None else None,
        )

    # --- making -------------------------------------------------------------------------

    async def create(self, spec: SandboxSpec) -> Box:
        name = box_name(spec.sandbox_id)
        run_directory = self._data / "run" / name
        box: Box | None = None
        try:
            image = await asyncio.to_thread(self._disks.image, spec.limits.disk_bytes)
            await asyncio.to_thread(self._cgroups.create, name, spec.limits)
            run_directory.mkdir(mode=0o700)
            first_id = self._take_range(name)
            request = self._request(name, first_id, image, spec.limits)
            answer = await self._forks.ask(op="create", box=asdict(request))
            pid = int(answer["pid"])
            ticks = start_ticks(pid)
            if ticks is None:
                raise RuntimeFailure(f"the sandbox ended at once: {_log_tail(run_directory)}")
            box = Box(spec.sandbox_id, self.name, pid, ticks, run_directory, spec.template)
            await asyncio.to_thread(self._cgroups.join, name, pid)
            await self._tell_init(box, {"op": "start"})
        except BaseException as error:
            trace = box or Box(spec.sandbox_id, self.name, 0, 0, run_directory, spec.template)
            with contextlib.suppress(RuntimeFailure):  # whoever asked for it tries again
                await asyncio.shield(self.kill(trace))
            if isinstance(error, OSError):
                raise RuntimeFailure(f"the sandbox could not be made: {error}") from error
            raise
        return box

    async def _tell_init(self, box: Box, message: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(START_DEADLINE * self._config.slowness):
            answer = await ask_init(box.run_directory, message)
        if "error" in answer:
            raise RuntimeFailure(f"the sandbox could not be furnished: {answer['error']}")
        return answer

    def _request(self, name: str, first_id: int, image: str | None, limits: Limits) -> BoxRequest:
        groups = self._cgroups.paths(name)
        if limits.pids and not (self._cgroups.can("pids") or namespaces_count_processes()):
            raise PolicyNotEnforceable("a process limit needs the pids controller or Linux 5.14")
        return BoxRequest(
            name,
            first_id,
            image,
            groups,
            memory_bytes=limits.memory_bytes,
            process_memory_bytes=None if self._cgroups.can("memory") else self._most_memory,
            processes=limits.pids if namespaces_count_processes() else None,
        )

    def _take_range(self, name: str) -> int:
        taken = set(self._ranges.values())
        for nth in range(MOST_RANGES):
            number = (self._first_range + nth) % MOST_RANGES
            if number not in taken:
                self._ranges[name] = number
                (self._data / "run" / name / "id-range").write_text(str(number))
                return FIRST_ID + number * ID_STRIDE
        raise RuntimeFailure(f"all {MOST_RANGES} id ranges are in use by live sandboxes")

    # --- ending -------------------------------------------------------------------------

    async def halt(self, box: Box) -> None:
        """Ending PID 1 ends everything in its pid namespace; the kernel sees to it."""
        if is_alive(box.pid, box.start_ticks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(box.pid, signal.SIGKILL)
            with contextlib.suppress(OSError, RuntimeFailure):
                await self.resume(box)  # a version 1 freezer holds even the dying

    async def kill(self, box: Box) -> None:
        # A box whose making was cut short is known by its sandbox id alone.
        for name in {box.run_directory.name, box_name(box.sandbox_id)}:
            self._remember_range(name)
            await self._end(name, self._known(box, name))

    def _remember_range(self, name: str) -> None:
        """Nobody else gets the box's ids as long as something of it is there."""
        with contextlib.suppress(OSError, ValueError):
            self._ranges[name] = int((self._data / "run" / name / "id-range").read_text())

    def _known(self, box: Box, name: str) -> Box:
        """The box with the pid that the fork server left, if the record's is of no process."""
        if is_alive(box.pid, box.start_ticks):
            return box
        try:
            left = (self._data / "run" / name / PID_FILE).read_text().split()
        except OSError:
            return box
        return replace(box, pid=int(left[0]), start_ticks=int(left[1]))

    async def _end(self, name: str, box: Box) -> None:
        """The run directory goes last: it is what a successor of this host finds the rest by."""
        await self.halt(box)
        try:
            async with asyncio.timeout(END_DEADLINE * self._config.slowness):
                await wait_for_exit(box.pid, box.start_ticks)
        except TimeoutError:
            raise RuntimeFailure(
                f"process {box.pid} of the sandbox does not end: the kernel holds it"
            ) from None
        try:
            await asyncio.to_thread(self._cgroups.remove, name)
        except OSError as error:
            raise RuntimeFailure(f"its control group cannot be removed: {error}") from error
        await self._remove_files(name)
        await remove_tree(self._data / "run" / name)
        self._ranges.pop(name, None)

    async def _remove_files(self, name: str) -> None:
        """Without root, they belong to ids that only the fork server may act for."""
        files = self._data / "sandboxes" / name
        if os.getuid() == 0:
            await remove_tree(files)
        elif files.exists():
            await self._forks.ask(op="remove", name=name)

    async def adopt(self, box: Box) -> bool:
        if not is_alive(box.pid, box.start_ticks):
            return False
        self._remember_range(box.run_directory.name)
        cgroup_search.find_again(self._cgroups, box.run_directory.name, box.pid)
        return True

    async def wait(self, box: Box) -> None:
        await wait_for_exit(box.pid, box.start_ticks)

    # --- pausing ------------------------------------------------------------------------

    async def pause(self, box: Box) -> None:
        await self._pausing.pause(box)

    async def resume(self, box: Box) -> None:
        await self._pausing.resume(box)

    # --- what it gives ------------------------------------------------------------------

    def isolation(self) -> Isolation:
        return Isolation(
            "namespaces",
            tuple(_held(self._config, self._cgroups, self._disks)),
            tuple(_not_held(self._config, self._cgroups, self._disks, self._most_memory)),
        )


def _held(config: ViewConfig, cgroups: Cgroups, disks: DiskImages) -> Iterator[str]:
    yield "own processes, mounts, network, IPC, host name and users"
    yield "own files over a read-only template; no file of the host outside it"
    yield "system calls and capabilities: those that packages and services need"
    if not config.single_id:
        yield "user code holds no rights over envd, the gateway or init"
    if config.id_mapped:
        yield "a range of user ids of its own for each sandbox"
    for what, controller in (("memory", "memory"), ("cpu", "cpu"), ("pause", "freezer")):
        if cgroups.can(controller):
            yield f"{what}, by control group (version {cgroups.version})"
    if cgroups.can("memory") and cgroups.can("freezer"):
        what = "all of it" if has_swap() else "that of files; the rest with swap or zram"
        yield f"memory of paused sandboxes is given back: {what}"
    if namespaces_count_processes():
        yield "processes and threads, by user namespace"
    elif cgroups.can("pids"):
        yield f"processes and threads, by control group (version {cgroups.version})"
    yield f"open files: {OPEN_FILES} a process"
    if disks.problem() is None:
        yield "disk space and number of files, by a disk of its own"


def _not_held(
    config: ViewConfig, cgroups: Cgroups, disks: DiskImages, most_memory: int
) -> Iterator[str]:
    if config.single_id:
        yield "root and user of a sandbox are one account, which may end envd and the gateway"
    elif not config.id_mapped:
        yield "user ids: all sandboxes have the same"
    if not all(layer.mapped for layer in config.layers):
        yield "files of /usr belong to nobody in a sandbox: its root cannot change them"
    if not cgroups.can("memory"):
        yield f"memory: one process gets {most_memory >> 20} MiB at most, many may get more"
    if not cgroups.can("cpu"):
        yield "cpu: a sandbox may use every core; its supervisors and the host come first"
    if not cgroups.can("pids") and not namespaces_count_processes():
        yield "processes and threads: counted since Linux 5.14"
    if not cgroups.can("freezer"):
        yield "pause: by SIGSTOP, which programs can tell"
    problem = disks.problem()
    if problem is not None:
        yield f"disk space: {problem}"


def namespaces_count_processes() -> bool:
    """Since Linux 5.14: `guest/rlimits.py`."""
    major, minor = (int(part) for part in platform.release().split(".")[:2])
    return (major, minor) >= (5, 14)


def box_name(sandbox_id: str) -> str:
    """What a box is called in paths and in the fork server, where other boxes may see it.

    Whoever knows a sandbox's id may use its ports, so the id must not follow from the name.
    """
    return "i" + hashlib.sha256(f"box {sandbox_id}".encode()).hexdigest()[:20]


def data_digest(data_directory: Path) -> str:
    """Tells the control groups of one host from those of another."""
    return hashlib.sha256(bytes(data_directory.resolve())).hexdigest()[:8]


def _log_tail(run_directory: Path) -> str:
    with contextlib.suppress(OSError):
        return (run_directory / "box.log").read_text(errors="replace")[-800:]
    return "no log"


def _view_config(data: Path, template: PreparedTemplate, ids: IdGrant, *, warm: bool) -> ViewConfig:
    shown = [
        Shown(f"{PACKAGE}/code_interpreter", str(_PACKAGE)),
        Shown(f"{PACKAGE}/kernels", str(resources("kernels"))),
        Shown(f"{PACKAGE}/local", str(template.local)),
        Shown(f"{PACKAGE}/stdlib", sysconfig.get_path("stdlib"), ("site-packages",)),
    ]
    if not python_is_in_usr():
        prefix = Path(sys.base_prefix).resolve()
        shown.append(Shown("/opt/python", str(prefix), unneeded(prefix)))
    warm_modules = (
        *("ssl", "hashlib"),  # load libraries of /usr, which a box can write
        "code_interpreter.envd.warmth",
        "code_interpreter.gateway.warmth",
        "code_interpreter.guest.launch",
    )
    return ViewConfig(
        layers=(
            Layer("/", (str(template.root),), "root"),
            Layer(
                "/usr", ("/usr",), "usr", mapped=ids.kind is not IdKind.ALL or sandboxes_own_usr()
            ),
            Layer("/usr/local", (str(template.local),), "local"),
        ),
        shown=tuple(shown),
        data_directory=str(data),
        socket_fd=-1,
        python="/usr/local/bin/python3",
        modules=warm_modules if warm else (),
        kernel_directory="/opt/code-interpreter/kernels/python3" if warm else None,
        newuidmap=ids.uids,
        newgidmap=ids.gids,
        single_id=ids.kind is IdKind.SINGLE,
        id_mapped=ids.kind is IdKind.ALL,
    )
