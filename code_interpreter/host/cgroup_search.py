"""Which control groups this process may make groups for boxes in.

Version 1 gives a group wherever this user may write. On version 2 a group that has
processes may hand no controllers down (cgroups(7), "no internal processes"), so a service
that systemd delegated its group to (``Delegate=yes``) moves itself one group down first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from code_interpreter.host.cgroups import Cgroups

MOUNT = Path("/sys/fs/cgroup")
OWN_GROUP = "host"
"""Where the host moves to in a group that was delegated to it."""
WANTED = frozenset({"memory", "pids", "cpu"})
_V1 = ("memory", "pids", "cpu", "cpuacct", "freezer")


def find(group: str, *, mount: Path = MOUNT) -> Cgroups:
    """The controllers that this process may use, with a group called ``group`` made in each."""
    return find_v2(group, mount) or _find_v1(group, mount) or Cgroups({}, 0)


def find_v2(group: str, mount: Path = MOUNT, wanted: Iterable[str] = WANTED) -> Cgroups | None:
    """The nearest group above this process that hands down controllers; None without any."""
    if not (mount / "cgroup.controllers").is_file():
        return None
    own = mount / _own_group("").lstrip("/")
    for parent in (own, *own.parents):
        if parent == mount.parent:
            break
        _make_way(parent, mount)
        controllers = _hand_down(parent, group, frozenset(wanted))
        if controllers is not None:
            return Cgroups({**controllers, "freezer": parent / group}, 2)
    return None


def _own_group(controller: str) -> str:
    """This process's group, from /proc/self/cgroup (cgroups(7)); "" is version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def _hand_down(parent: Path, group: str, wanted: frozenset[str]) -> dict[str, Path] | None:
    directory = parent / group
    try:
        available = wanted & set((parent / "cgroup.controllers").read_text().split())
        for controller in sorted(available):
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        directory.mkdir(exist_ok=True)
        for controller in sorted(available):
            (directory / "cgroup.subtree_control").write_text(f"+{controller}")
        if not os.access(directory / "cgroup.procs", os.W_OK):
            return None
    except OSError:
        with contextlib.suppress(OSError):
            directory.rmdir()
        return None
    return dict.fromkeys(sorted(available), directory)


def _make_way(group: Path, mount: Path) -> None:
    """Move this process and its children down, if the group holds nobody else."""
    if group in (mount, mount.parent) or group.name == OWN_GROUP:
        return
    with contextlib.suppress(OSError, ValueError):
        members = set(map(int, (group / "cgroup.procs").read_text().split()))
        family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        if not members or not members <= family:
            return
        below = group / OWN_GROUP
        below.mkdir(exist_ok=True)
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                (below / "cgroup.procs").write_text(str(pid))


def _find_v1(group: str, mount: Path) -> Cgroups | None:
    controllers = {}
    for name in _V1:
        own = mount / name / _own_group(name).lstrip("/")
        if not (mount / name / "cgroup.procs").is_file():
            continue
        directory = own / group
        with contextlib.suppress(OSError):
            directory.mkdir(exist_ok=True)
            if os.access(directory / "cgroup.procs", os.W_OK):
                controllers[name] = directory
    return Cgroups(controllers, 1) if controllers else None
