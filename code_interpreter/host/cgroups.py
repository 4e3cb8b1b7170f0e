"""Control groups: what a sandbox may use, and stopping all of it at once.

Both generations are spoken. On version 2 everything is one directory; on version 1 each
controller is a hierarchy of its own. `find` says what this machine and this user have.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from code_interpreter.host.runtimes.base import Limits, PolicyNotEnforceable

MOUNT = Path("/sys/fs/cgroup")
REMOVAL_DEADLINE = 5.0
"""Seconds for the last process of a group to be gone."""
_CPU_PERIOD = 100_000
_V1 = ("memory", "pids", "cpu", "cpuacct", "freezer")


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The groups that boxes get theirs under: a directory a controller."""

    controllers: dict[str, Path]
    version: int

    def can(self, controller: str) -> bool:
        return controller in self.controllers

    def directories(self, name: str) -> dict[str, Path]:
        return {controller: parent / name for controller, parent in self.controllers.items()}

    def paths(self, name: str) -> dict[str, str]:
        """The box's directories as text: one a controller, or the one of version 2."""
        directories = self.directories(name)
        if self.version == 2:
            directories = {"unified": next(iter(directories.values()))}
        return {controller: str(directory) for controller, directory in directories.items()}

    def create(self, name: str, limits: Limits) -> None:
        """Make the box's groups. Raises `PolicyNotEnforceable` for a limit without a controller."""
        for what, value, controller in (
            ("memory", limits.memory_bytes, "memory"),
            ("cpu", limits.cpu_count, "cpu"),
            ("process", limits.pids, "pids"),
        ):
            if value is not None and not self.can(controller):
                raise PolicyNotEnforceable(
                    f"a {what} limit was asked for, but this host has no {controller!r} cgroup "
                    "controller that it may use; run the host as root or with systemd delegation"
                )
        for directory in self.directories(name).values():
            directory.mkdir(parents=True, exist_ok=True)
        self._limit(name, limits)

    def _limit(self, name: str, limits: Limits) -> None:
        own = self.directories(name)
        names = _V2_FILES if self.version == 2 else _V1_FILES
        if limits.memory_bytes is not None:
            _write(own["memory"] / names["memory"], str(limits.memory_bytes))
            for extra in ("memory.swap.max", "memory.oom.group"):
                with contextlib.suppress(OSError):
                    if self.version == 2:
                        _write(own["memory"] / extra, "0")
        if limits.pids is not None:
            _write(own["pids"] / "pids.max", str(limits.pids))
        if limits.cpu_count is not None:
            quota = int(limits.cpu_count * _CPU_PERIOD)
            if self.version == 2:
                _write(own["cpu"] / "cpu.max", f"{quota} {_CPU_PERIOD}")
            else:
                _write(own["cpu"] / "cpu.cfs_period_us", str(_CPU_PERIOD))
                _write(own["cpu"] / "cpu.cfs_quota_us", str(quota))

    def join(self, name: str, pid: int) -> None:
        """Put a process, and so all that it starts, into the box's groups."""
        for directory in set(self.directories(name).values()):
            _write(directory / "cgroup.procs", str(pid))

    def pids(self, name: str) -> list[int]:
        found: set[int] = set()
        for directory in self.directories(name).values():
            with contextlib.suppress(OSError):
                found.update(map(int, (directory / "cgroup.procs").read_text().split()))
        return sorted(found)

    def freeze(self, name: str, *, frozen: bool) -> None:
        """Stop or continue every process of the group; returns when the kernel has done it."""
        if self.version == 2:
            directory = next(iter(self.directories(name).values()))
            _write(directory / "cgroup.freeze", "1" if frozen else "0")
            wanted, file = f"frozen {int(frozen)}", directory / "cgroup.events"
        else:
            directory = self.directories(name)["freezer"]
            state = "FROZEN" if frozen else "THAWED"
            _write(directory / "freezer.state", state)
            wanted, file = state, directory / "freezer.state"
        deadline = time.monotonic() + REMOVAL_DEADLINE
        while wanted not in file.read_text():
            if time.monotonic() > deadline:
                raise OSError(f"the cgroup freezer did not settle on {wanted!r}")
            time.sleep(0.002)

    def memory_bytes(self, name: str) -> int | None:
        """What the group uses now; None without a memory controller."""
        file = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        with contextlib.suppress(OSError, KeyError, ValueError):
            return int((self.directories(name)["memory"] / file).read_text())
        return None

    def remove(self, name: str) -> None:
        """Remove the groups of a dead box; waits for its last process to be reaped."""
        deadline = time.monotonic() + REMOVAL_DEADLINE
        for directory in self.directories(name).values():
            while directory.is_dir():
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.002)

    def remove_parents(self) -> None:
        """Remove the groups that boxes get theirs under, where no box is left."""
        for directory in set(self.controllers.values()):
            with contextlib.suppress(OSError):
                directory.rmdir()


_V2_FILES = {"memory": "memory.max"}
_V1_FILES = {"memory": "memory.limit_in_bytes"}


def _write(path: Path, value: str) -> None:
    path.write_text(value)


def find(group: str) -> Cgroups:
    """The controllers that this process may use, with a group called ``group`` made in each."""
    return _find_v2(group) or _find_v1(group) or Cgroups({}, 0)


def _own_group(controller: str) -> str:
    """This process's group, from /proc/self/cgroup (cgroups(7)); "" is version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def _find_v2(group: str) -> Cgroups | None:
    if not (MOUNT / "cgroup.controllers").is_file():
        return None
    own = MOUNT / _own_group("").lstrip("/")
    # A group with processes of its own may not hand controllers down, so look for the
    # nearest one above that may: the delegated slice, or the root.
    for parent in (own, *own.parents):
        if parent == MOUNT.parent:
            break
        directory = parent / group
        try:
            available = set((parent / "cgroup.controllers").read_text().split())
            wanted = " ".join(f"+{name}" for name in sorted(available & {"memory", "pids", "cpu"}))
            _write(parent / "cgroup.subtree_control", wanted)
            directory.mkdir(exist_ok=True)
            _write(directory / "cgroup.subtree_control", wanted)
        except OSError:
            continue
        controllers = dict.fromkeys([*sorted(available & {"memory", "pids", "cpu"})], directory)
        return Cgroups({**controllers, "freezer": directory}, 2)
    return None


def _find_v1(group: str) -> Cgroups | None:
    controllers = {}
    for name in _V1:
        own = MOUNT / name / _own_group(name).lstrip("/")
        if not (MOUNT / name / "cgroup.procs").is_file():
            continue
        directory = own / group
        with contextlib.suppress(OSError):
            directory.mkdir(exist_ok=True)
            if os.access(directory / "cgroup.procs", os.W_OK):
                controllers[name] = directory
    return Cgroups(controllers, 1) if controllers else None
