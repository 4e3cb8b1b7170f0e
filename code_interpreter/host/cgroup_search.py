"""Which control groups this process may make groups for boxes in.

Version 1 gives a group wherever this user may write. On version 2 a group that has
processes may hand no controllers down (cgroups(7), "no internal processes"), so a service
that systemd delegated its group to (``Delegate=yes``) moves itself one group down first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
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
    if _is_unified(mount):
        return find_v2(group, mount) or Cgroups({}, 2)
    return _find_v1(group, mount) or Cgroups({}, 0)


def find_v2(group: str, mount: Path = MOUNT, wanted: Iterable[str] = WANTED) -> Cgroups | None:
    """Of the groups above this process the nearest that hands all controllers down, else the
    one that hands most down; None without any."""
    wanted, best = frozenset(wanted), None
    for parent in _above(mount):
        _make_way(parent, mount)
        available = wanted & _controllers(parent)
        if best is not None and len(available) < len(best.controllers):  # it has the freezer, too
            continue
        found = _hand_down(parent, group, available)
        if found is None:
            continue
        if best is not None and len(found.controllers) <= len(best.controllers):
            _give_up(found)
            continue
        _give_up(best)
        best = found
        if wanted <= best.controllers.keys():
            break
    return best


@contextlib.contextmanager
def as_found(mount: Path = MOUNT) -> Iterator[None]:
    """Of what is searched within it nothing stays: who made way goes back, where that is possible.

    Remove the groups that were found before it ends.
    """
    found = [_Found(group) for group in _above(mount)]
    try:
        yield
    finally:
        for group in found:
            group.restore()


def _above(mount: Path) -> tuple[Path, ...]:
    """This process's group on version 2, and those above it up to the mount."""
    if not _is_unified(mount):
        return ()
    own = _place(mount, _group_of("self", ""))
    return tuple(group for group in (own, *own.parents) if group.is_relative_to(mount))


def _is_unified(mount: Path) -> bool:
    return (mount / "cgroup.controllers").is_file()


class _Found:
    """A group of version 2 as it was."""

    def __init__(self, group: Path) -> None:
        self._group = group
        self._had_way_made = (group / OWN_GROUP).exists()
        self._handed_down = self._read()

    def _read(self) -> set[str]:
        with contextlib.suppress(OSError):
            return set((self._group / "cgroup.subtree_control").read_text().split())
        return set()

    def restore(self) -> None:
        for controller in self._read() - self._handed_down:
            with contextlib.suppress(OSError):
                (self._group / "cgroup.subtree_control").write_text(f"-{controller}")
        below = self._group / OWN_GROUP
        if self._had_way_made or not below.exists():
            return
        with contextlib.suppress(OSError):
            _move(map(int, (below / "cgroup.procs").read_text().split()), self._group)
            below.rmdir()


def _controllers(group: Path) -> frozenset[str]:
    with contextlib.suppress(OSError):
        return frozenset((group / "cgroup.controllers").read_text().split())
    return frozenset()


def _give_up(groups: Cgroups | None) -> None:
    if groups is not None:
        groups.remove_parents()


def find_again(groups: Cgroups, name: str, pid: int, *, mount: Path = MOUNT) -> None:
    """Look where a box's groups are: its host may have run in another place than this one.

    There, it may have had groups where this one has none, or none where this one has.
    """
    with contextlib.suppress(OSError):
        found = _groups_v2(name, pid, mount) if groups.version == 2 else {}
        for controller in groups.controllers if groups.version == 1 else ():
            path = _group_of(pid, controller)
            if Path(path).name == name:
                found[controller] = _place(mount / controller, path)
        if found != groups.directories(name):
            groups.elsewhere[name] = found


def _groups_v2(name: str, pid: int, mount: Path) -> dict[str, Path]:
    path = _group_of(pid, "")
    if Path(path).name != name:
        return {}
    place = _place(mount, path)
    return dict.fromkeys((*(WANTED & _controllers(place)), "freezer"), place)


def _place(mount: Path, group: str) -> Path:
    """Where a group is below a mount: in a container, that can show a part of all of them."""
    shown = Path(_shown_at(mount))
    path = Path(group)
    return mount / (path.relative_to(shown) if path.is_relative_to(shown) else group.lstrip("/"))


def _shown_at(mount: Path) -> str:
    """The group that a mount has as its root (proc(5), mountinfo)."""
    shown = "/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(mount):
            shown = fields[3]
    return shown


def _group_of(process: int | str, controller: str) -> str:
    """A process's group, from /proc/<pid>/cgroup (cgroups(7)); "" is version 2."""
    for line in Path(f"/proc/{process}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def _hand_down(parent: Path, group: str, controllers: Iterable[str]) -> Cgroups | None:
    """Make a group in ``parent`` that hands down which of these controllers it may; None if the
    group is refused.

    One may be refused alone: cpu, on a kernel for real time, as long as such a process runs.
    """
    directory = parent / group
    given = _switch_on(parent, controllers)
    with contextlib.suppress(OSError):
        directory.mkdir(exist_ok=True)
        handed_down = sorted(_switch_on(directory, given))
        found = Cgroups(dict.fromkeys((*handed_down, "freezer"), directory), 2)
        if os.access(directory / "cgroup.procs", os.W_OK):
            return found
        _give_up(found)
    return None


def _switch_on(group: Path, controllers: Iterable[str]) -> list[str]:
    """Those of the controllers that groups below this one have from now on."""
    on = []
    for controller in controllers:
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
            on.append(controller)
    return on


def _make_way(group: Path, mount: Path) -> None:
    """Move this process and its children down, if the group holds nobody else.

    From a container's own group, which is the one at ``mount`` there, all its processes are
    moved. The machine's first group needs no way made: it may have processes.
    """
    if not (group / "cgroup.events").is_file() or group.name == OWN_GROUP:
        return
    with contextlib.suppress(OSError, ValueError):
        members = set(map(int, (group / "cgroup.procs").read_text().split()))
        family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        if not members or not (group == mount or members <= family):
            return
        below = group / OWN_GROUP
        below.mkdir(exist_ok=True)
        _move(members, below)


def _move(processes: Iterable[int], group: Path) -> None:
    """Raises OSError where that is refused."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))


def _find_v1(group: str, mount: Path) -> Cgroups | None:
    controllers = {}
    for name in _V1:
        if not (mount / name / "cgroup.procs").is_file():
            continue
        directory = _place(mount / name, _group_of("self", name)) / group
        with contextlib.suppress(OSError):
            directory.mkdir(exist_ok=True)
            if os.access(directory / "cgroup.procs", os.W_OK):
                controllers[name] = directory
    return Cgroups(controllers, 1) if controllers else None
