"""Of this machine: what keeps a sandbox from taking more than its part."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from code_interpreter.host import cgroup_search, kernel_settings
from code_interpreter.host.admission import Admission
from code_interpreter.host.containers import container
from code_interpreter.host.disks import DiskImages
from code_interpreter.host.facts import Fact, Standing, as_root, ok, read, serve
from code_interpreter.host.ids import user_name
from code_interpreter.host.limits import wanted_limits
from code_interpreter.host.settings import Settings

_DELEGATE_CPU = (
    "sudo systemctl set-property user.slice CPUAccounting=yes, "
    "or Delegate=cpu in user@.service (systemd.resource-control(5))"
)
_WANTED = ("memory", "pids", "cpu", "freezer")


def control_groups() -> Fact:
    """Makes groups and removes them."""
    name = "control groups"
    found = cgroup_search.find(f"code-interpreter-doctor-{os.getpid()}")
    try:
        absent = [controller for controller in _WANTED if not found.can(controller)]
        if len(absent) == len(_WANTED):
            detail = "none may be used here: no limit of memory and cpu"
            return Fact(name, Standing.LIMITED, detail, _way_to_groups())
        present = ", ".join(name for name in found.controllers if name != "cpuacct")
        detail = f"version {found.version}: {present}"
        if not absent:
            return ok(name, detail)
        remedy = _DELEGATE_CPU if absent == ["cpu"] else _way_to_groups()
        return Fact(name, Standing.LIMITED, f"{detail}; without {', '.join(absent)}", remedy)
    finally:
        for directory in set(found.controllers.values()):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _way_to_groups() -> str:
    if os.getuid() == 0 or container():
        return as_root()
    systemd = Path("/run/systemd/system").is_dir() and (cgroup_search.MOUNT / "cgroup.controllers")
    return _delegate() if systemd and systemd.is_file() else as_root()


def _delegate() -> str:
    """Where no session of systemd's is the user's, as after su, one has to be made first."""
    command = f"systemd-run --user --scope -p Delegate=yes -p TasksMax=infinity {serve()}"
    runtime = f"/run/user/{os.getuid()}"
    if os.environ.get("XDG_RUNTIME_DIR") == runtime:
        return command
    linger = "" if Path(runtime).is_dir() else f"sudo loginctl enable-linger {user_name()} && "
    return f"{linger}XDG_RUNTIME_DIR={runtime} {command}"


def disk_space(directory: Path) -> Fact:
    name, problem = "disk space", DiskImages(directory).problem()
    if problem is None:
        return ok(name, "a disk image of its size for each sandbox (loop devices)")
    what, _, remedy = problem.partition(" (")
    detail = f"not limited: {what}"
    return Fact(
        name, Standing.LIMITED, detail, f"sudo {remedy.rstrip(')')}" if remedy else as_root()
    )


def free_disk(settings: Settings) -> Fact:
    """Whether the data directory has room for a sandbox as it is by default."""
    name, directory = "room on the disk", settings.data_dir
    limits = wanted_limits(settings)
    if DiskImages(directory).problem() is not None:
        limits = replace(limits, disk_bytes=None)
    shortage = Admission(settings, lambda: None).disk_shortage(limits)
    if shortage is None:
        free = shutil.disk_usage(directory).free >> 20
        return ok(name, f"{free} MiB are free where the data directory is")
    detail = f"too little for another sandbox: {shortage}"
    remedy = f"make room where {directory} is, or name another place with --data-dir"
    return Fact(name, Standing.LIMITED, detail, remedy)


def machine_settings() -> Fact:
    """Counts for the whole machine, which hundreds of sandboxes share."""
    name = "kernel settings"
    small = kernel_settings.too_small()
    if not small:
        return ok(name, "inotify, processes, open files: room for hundreds of sandboxes")
    if os.getuid() == 0 and all(os.access(Path("/proc/sys", item), os.W_OK) for item in small):
        return ok(name, f"raised when a host starts: {', '.join(map(_dotted, small))}")
    now = ", ".join(f"{_dotted(item)} = {kernel_settings.value(item)}" for item in small)
    wanted = " ".join(f"{_dotted(item)}={kernel_settings.LEAST[item]}" for item in small)
    detail = f"small for hundreds of sandboxes: {now}"
    return Fact(name, Standing.LIMITED, detail, f"sudo sysctl -w {wanted}")


def _dotted(setting: str) -> str:
    return setting.replace("/", ".")


def swap() -> Fact:
    name = "swap"
    swaps = [line.split()[0] for line in (read("/proc/swaps") or "").splitlines()[1:]]
    if swaps:
        kind = "zram" if any("zram" in device for device in swaps) else "swap"
        detail = f"{kind} ({', '.join(swaps)}): a paused sandbox's memory can leave RAM"
        return ok(name, detail)
    detail = "none: a paused sandbox keeps its memory"
    return Fact(name, Standing.LIMITED, detail, "sudo apt-get install zram-tools")
