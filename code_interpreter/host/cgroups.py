"""Control groups: what a sandbox may use, and stopping all of it at once.

Both generations are spoken. On version 2 everything is one directory; on version 1 each
controller is a hierarchy of its own. `cgroup_search.find` says what this machine and this
user have.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from code_interpreter.host.runtimes.base import Limits, PolicyNotEnforceable

REMOVAL_DEADLINE = 5.0
"""Seconds for the last process of a group to be gone."""
SUPERVISOR_TASKS = 256
"""Processes and threads that a box may have beyond those of its user code."""
_CPU_PERIOD = 100_000
_NO_LIMIT = 1 << 60
_IDLE = "cpu.idle"
_HASTE = 8
"""How much more the boxes of a host that stops count for than those of one that runs."""

_LESS = 10
"""How often what a hog weighs goes into what others weigh, where it cannot come last."""
_ALL_LESS = 2
"""How often what all boxes count for goes into what they do without a hog among them."""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The groups that boxes get theirs under: a directory a controller."""

    controllers: dict[str, Path]
    version: int
    elsewhere: dict[str, dict[str, Path]] = field(default_factory=dict, compare=False)
    """Groups of boxes that an earlier host made in another place (another systemd unit), or
    nowhere: it had none."""

    def can(self, controller: str) -> bool:
        return controller in self.controllers

    def directories(self, name: str) -> dict[str, Path]:
        """The box's, a controller each; empty for a box that an earlier host made without."""
        if name in self.elsewhere:
            return self.elsewhere[name]
        return {controller: parent / name for controller, parent in self.controllers.items()}

    def can_freeze(self, name: str) -> bool:
        return "freezer" in self.directories(name)

    def paths(self, name: str) -> dict[str, str]:
        """The box's directories as text: one a controller, or the one of version 2."""
        directories = self.directories(name)
        if self.version == 2 and directories:
            directories = {"unified": next(iter(directories.values()))}
        return {controller: str(directory) for controller, directory in directories.items()}

    # --- one box ------------------------------------------------------------------------

    def create(self, name: str, limits: Limits) -> None:
        """Make the box's groups. Raises `PolicyNotEnforceable` for a limit without a controller."""
        for what, value, controller in (
            ("memory", limits.memory_bytes, "memory"),
            ("cpu", limits.cpu_count, "cpu"),
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
        if limits.memory_bytes is not None:
            self._limit_memory(own["memory"], limits.memory_bytes)
        if limits.pids is not None and self.can("pids"):
            _write(own["pids"] / "pids.max", limits.pids + SUPERVISOR_TASKS)
        if limits.cpu_count is not None:
            quota = int(limits.cpu_count * _CPU_PERIOD)
            if self.version == 2:
                _write(own["cpu"] / "cpu.max", f"{quota} {_CPU_PERIOD}")
            else:
                _write(own["cpu"] / "cpu.cfs_period_us", _CPU_PERIOD)
                _write(own["cpu"] / "cpu.cfs_quota_us", quota)

    def _limit_memory(self, group: Path, size: int) -> None:
        """Memory, and that what does not fit is not pushed into the machine's swap."""
        if self.version == 2:
            _write(group / "memory.max", size)
            with contextlib.suppress(OSError):
                _write(group / "memory.swap.max", 0)
        else:
            _write(group / "memory.limit_in_bytes", size)
            with contextlib.suppress(OSError):
                _write(group / "memory.memsw.limit_in_bytes", size)

    def join(self, name: str, pid: int) -> None:
        """Put a process, and so all that it starts, into the box's groups."""
        for directory in set(self.directories(name).values()):
            _write(directory / "cgroup.procs", pid)

    def pids(self, name: str) -> list[int]:
        found: set[int] = set()
        for directory in self.directories(name).values():
            with contextlib.suppress(OSError):
                found.update(map(int, (directory / "cgroup.procs").read_text().split()))
        return sorted(found)

    def holds(self, name: str, pid: int) -> bool:
        """Whether a process is in all of the box's groups."""
        groups = set(self.directories(name).values())
        return all(str(pid) in (group / "cgroup.procs").read_text().split() for group in groups)

    def freeze(self, name: str, *, frozen: bool) -> None:
        """Stop or continue every process of the group; returns when the kernel has done it."""
        if self.version == 2:
            directory = next(iter(self.directories(name).values()))
            _write(directory / "cgroup.freeze", int(frozen))
            wanted, file = f"frozen {int(frozen)}", directory / "cgroup.events"
        else:
            directory = self.directories(name)["freezer"]
            state = "FROZEN" if frozen else "THAWED"
            _write(directory / "freezer.state", state)
            wanted, file = state, directory / "freezer.state"
        deadline = time.monotonic() + REMOVAL_DEADLINE
        pause = 0.0001
        while wanted not in file.read_text():
            if time.monotonic() > deadline:
                raise OSError(f"it did not settle on {wanted!r}")
            time.sleep(pause)
            pause = min(0.002, pause * 2)

    def reclaim_file(self, name: str) -> Path | None:
        """Where a number of bytes is written to be reclaimed from the box; None: nowhere.

        Version 2 has ``memory.reclaim`` since Linux 5.19. Version 1 takes any number, and
        reclaims what it can.
        """
        own = self.directories(name).get("memory")
        if own is None:
            return None
        file = own / ("memory.reclaim" if self.version == 2 else "memory.force_empty")
        return file if file.exists() else None

    def allow_swap(self, name: str, *, allowed: bool) -> None:
        """A box that runs may not fill the machine's swap; one that is paused belongs there.

        In version 1 swap counts as memory (`_limit_memory`), so there is nothing to allow.
        """
        own = self.directories(name).get("memory")
        if self.version == 2 and own is not None:
            with contextlib.suppress(OSError):
                (own / "memory.swap.max").write_text("max" if allowed else "0")

    def memory_bytes(self, name: str) -> int | None:
        """What the group uses now; None without a memory controller."""
        own = self.directories(name).get("memory")
        return None if own is None else _number(own / self._usage_file)

    # --- processor time -----------------------------------------------------------------

    @property
    def weighs(self) -> bool:
        """Whether processor time of each box is counted, and its share can be changed."""
        return self.can("cpu") and (self.version == 2 or self.can("cpuacct"))

    def names(self) -> list[str]:
        """Of all boxes that have a group, here or where an earlier host made it."""
        with os.scandir(self.controllers["cpu"]) as entries:
            here = [entry.name for entry in entries if entry.is_dir()]
        return here + list(self._elsewhere("cpu"))

    def _elsewhere(self, controller: str) -> dict[str, Path]:
        """Groups of boxes that an earlier host made in another place; copied: threads ask."""
        places = list(self.elsewhere.items())
        return {name: own[controller] for name, own in places if controller in own}

    def all_cpu_seconds(self) -> float:
        """Processor time that all boxes have used."""
        groups = [self.controllers[self._usage], *self._elsewhere(self._usage).values()]
        return sum(self._cpu_seconds(group) or 0.0 for group in groups)

    def cpu_seconds(self, name: str) -> float | None:
        """Processor time that a box has used; None without its group."""
        return self._cpu_seconds(self.directories(name)[self._usage])

    @property
    def _usage(self) -> str:
        """The controller that counts processor time."""
        return "cpu" if self.version == 2 else "cpuacct"

    def _cpu_seconds(self, group: Path) -> float | None:
        if self.version == 2:
            with contextlib.suppress(OSError, ValueError):
                stat = (group / "cpu.stat").read_text().split()
                return int(stat[stat.index("usage_usec") + 1]) / 1e6
            return None
        used = _number(group / "cpuacct.usage")
        return None if used is None else used / 1e9

    def weigh(self, name: str, *, less: bool) -> None:
        """Let a box have the processor when no other wants it, or as others have it.

        Linux 5.15 lets a group come last (``cpu.idle``): who wakes up in another need not wait
        for the end of its turn. Before, it has less.
        """
        file, usual = self._weight_file(name)
        idle = file.with_name(_IDLE)
        with contextlib.suppress(OSError):  # it has ended
            if idle.exists():
                _write(idle, int(less))
                if less:
                    return
            _write(file, usual // _LESS if less else usual)

    def weighs_less(self, name: str) -> bool:
        """Whether the box comes after others; its weight is the least there is if it comes last."""
        file, usual = self._weight_file(name)
        weight = _number(file)
        return weight is not None and weight < usual

    def weigh_all(self, *, less: bool, cores: int) -> None:
        """Let all boxes together count for less than what answers for them, or for as much."""
        self._weigh(cores / _ALL_LESS if less else cores)

    def _weight_file(self, name: str) -> tuple[Path, int]:
        """And what is in it by default."""
        file, usual = ("cpu.weight", 100) if self.version == 2 else ("cpu.shares", 1024)
        return self.directories(name)["cpu"] / file, usual

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
        for directory in self.elsewhere.pop(name, {}).values():
            with contextlib.suppress(OSError):  # others are in it
                directory.parent.rmdir()

    # --- all boxes together -------------------------------------------------------------

    def bound(self, *, memory_bytes: int, tasks: int, cores: int) -> None:
        """What boxes may use together, so that the host and the machine keep the rest.

        On a machine that is busy with other things they count for as much as one process a
        core. What cannot be said here is left unsaid: each box has its own limits.
        """
        if self.can("memory"):
            _say(self.controllers["memory"] / self._limit_file, memory_bytes)
        if self.can("pids"):
            _say(self.controllers["pids"] / "pids.max", tasks)
        self._weigh(cores)

    def hasten(self, *, cores: int) -> None:
        """Let all boxes count for more: they are to end.

        A dying process gives its memory back by itself, in its own share of the processor.
        """
        self._weigh(cores * _HASTE)

    def _weigh(self, processes: float) -> None:
        """Let all boxes together count for as much as so many processes."""
        groups = {group.parent for group in self._elsewhere("cpu").values()}
        if self.can("cpu"):
            groups.add(self.controllers["cpu"])
        for group in groups:
            _say(group / "cpu.weight", min(10_000, int(100 * processes)))
            _say(group / "cpu.shares", min(262_144, int(1024 * processes)))

    def memory_room(self) -> int | None:
        """Bytes that boxes may still take together; None where no group above limits them."""
        rooms = [room for group in self._memory_groups() if (room := self._room_of(group))]
        return min(rooms, default=None)

    def _memory_groups(self) -> Iterator[Path]:
        """The group of all boxes and those above it that are groups, too."""
        group = self.controllers.get("memory")
        while group is not None and (group / self._usage_file).exists():
            yield group
            group = group.parent

    def _room_of(self, group: Path) -> int | None:
        limit = _number(group / self._limit_file)
        used = _number(group / self._usage_file)
        if limit is None or used is None or limit > _NO_LIMIT:
            return None
        return max(1, limit - used + self._reclaimable(group))

    def _reclaimable(self, group: Path) -> int:
        """Bytes of files that the kernel drops when it needs room."""
        name = "inactive_file" if self.version == 2 else "total_inactive_file"
        with contextlib.suppress(OSError, ValueError):
            words = (group / "memory.stat").read_text().split()
            return int(words[words.index(name) + 1])
        return 0

    @property
    def _limit_file(self) -> str:
        return "memory.max" if self.version == 2 else "memory.limit_in_bytes"

    @property
    def _usage_file(self) -> str:
        return "memory.current" if self.version == 2 else "memory.usage_in_bytes"

    def remove_parents(self) -> None:
        """Remove the groups that boxes get theirs under, where no box is left."""
        for directory in set(self.controllers.values()):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _say(path: Path, value: int) -> None:
    """To a group that may have no such file, or not let us."""
    if path.exists():
        with contextlib.suppress(OSError):
            _write(path, value)


def _write(path: Path, value: str | int) -> None:
    path.write_text(str(value))


def _number(path: Path) -> int | None:
    """None for ``max``, and where there is no such file."""
    with contextlib.suppress(OSError, ValueError), path.open("rb", buffering=0) as file:
        return int(file.read())
    return None
