"""The container that this host runs in, if any, and how it has to be started for sandboxes."""

from __future__ import annotations

import os
from pathlib import Path

_VOLUME = "-v code-interpreter:/data"


def container() -> str:
    """Who made the container: ``podman``, ``docker``, ``systemd-nspawn``…; "" outside of one."""
    if Path("/run/.containerenv").exists():
        return "podman"
    if Path("/.dockerenv").exists() and _is_mounted("/etc/hostname"):
        return "docker"
    try:
        named = Path("/run/systemd/container").read_text().strip()
    except OSError:
        named = os.environ.get("container", "")  # noqa: SIM112 (systemd's name for it)
    return "" if named == "wsl" else named


def _is_mounted(path: str) -> bool:
    """Tells Docker from a machine whose disk was made of one of its images."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == path for line in lines)


def whole_way() -> str:
    """How to start this container so that sandboxes get every limit."""
    kind = container()
    if kind in ("podman", "docker"):
        return f"{kind} run --privileged {_VOLUME} … code-interpreter serve --data-dir /data"
    return "run the host outside of this container, or in one that is privileged"


def least_way() -> str:
    """How to start this container so that there are sandboxes at all."""
    kind = container()
    if kind == "podman":
        options = "--security-opt unmask=ALL"
    elif kind == "docker":
        options = "--security-opt systempaths=unconfined --security-opt seccomp=unconfined"
        options += " --security-opt apparmor=unconfined"
    else:
        return whole_way()
    return f"{kind} run {options} {_VOLUME} … code-interpreter serve --data-dir /data"
