"""What a sandbox may use: the host's defaults, the caller's wishes, the host's maxima."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil

from code_interpreter.host.errors import BadRequest
from code_interpreter.host.runtimes.base import Limits, SandboxRuntime
from code_interpreter.host.settings import Settings

MIB = 1024 * 1024
_PROCESS = 2 * MIB


@dataclass(frozen=True, slots=True)
class _Wished:
    """How callers call a limit, and the least that a sandbox can work with."""

    name: str
    unit: int
    least: float

    def text(self, value: float) -> str:
        return f"{value / self.unit:g}" if self.unit == 1 else str(int(value) // self.unit)


_WISHES = {
    "memory_bytes": _Wished("memoryMB", MIB, 128 * MIB),
    "cpu_count": _Wished("cpuCount", 1, 0.1),
    "disk_bytes": _Wished("diskSizeMB", MIB, 64 * MIB),
}


class LimitPolicy:
    def __init__(self, settings: Settings, runtime: SandboxRuntime) -> None:
        self._maxima = _maxima(settings)
        wanted = wanted_limits(settings)
        self.defaults = _few_enough(runtime.enforceable(wanted))
        self.dropped = tuple(
            item.name
            for item in fields(Limits)
            if getattr(wanted, item.name) != getattr(self.defaults, item.name)
        )
        """Defaults that cannot be enforced here; said to the user when the host starts."""

    def choose(self, wished: Limits) -> Limits:
        """Wishes over defaults. Raises `BadRequest` outside of what this host allows."""
        given = {
            item.name: getattr(wished, item.name)
            for item in fields(Limits)
            if getattr(wished, item.name) is not None
        }
        for name, value in given.items():
            self._check(name, value)
        return _few_enough(replace(self.defaults, **given))

    def _check(self, name: str, value: float) -> None:
        wish, most = _WISHES[name], getattr(self._maxima, name)
        if not wish.least <= value <= most:
            raise BadRequest(
                f"{wish.name} must be from {wish.text(wish.least)} to {wish.text(most)} on this "
                f"host, not {wish.text(value)}"
            )

    def effective(self, limits: Limits) -> tuple[float, int, int]:
        """Cores, MiB of memory and MiB of disk to show; the machine's where nothing limits."""
        cores = limits.cpu_count or self._maxima.cpu_count or 1
        memory = limits.memory_bytes or self._maxima.memory_bytes or 0
        disk = limits.disk_bytes or self._maxima.disk_bytes or 0
        return int(cores) if cores == int(cores) else cores, memory // MIB, disk // MIB


def wanted_limits(settings: Settings) -> Limits:
    """What a sandbox has by default, where all of it can be enforced."""
    wanted = Limits(
        memory_bytes=_bytes(settings.default_memory_mb),
        cpu_count=settings.default_cpu_count,
        pids=settings.default_pids,
        disk_bytes=_bytes(settings.default_disk_mb),
    )
    maxima, capped = _maxima(settings), {}
    for item in fields(Limits):
        value, maximum = getattr(wanted, item.name), getattr(maxima, item.name)
        both = [number for number in (value, maximum) if number is not None]
        capped[item.name] = None if value is None else min(both)
    return Limits(**capped)


def _maxima(settings: Settings) -> Limits:
    machine = machine_limits(settings.data_dir)
    return replace(
        machine,
        memory_bytes=_bytes(settings.max_memory_mb) or machine.memory_bytes,
        cpu_count=settings.max_cpu_count or machine.cpu_count,
        disk_bytes=_bytes(settings.max_disk_mb) or machine.disk_bytes,
    )


def _few_enough(limits: Limits) -> Limits:
    """Processes for which the memory is there: what many take for themselves counts, too.

    Otherwise a bomb meets the memory limit before it meets this one, and each process of it
    has to be found and killed for want of memory, which takes long.
    """
    if limits.pids is None or limits.memory_bytes is None:
        return limits
    return replace(limits, pids=min(limits.pids, max(64, limits.memory_bytes // _PROCESS)))


def machine_limits(directory: Path) -> Limits:
    """What this machine has; the disk is the one of ``directory``."""
    return Limits(
        memory_bytes=psutil.virtual_memory().total,
        cpu_count=float(os.cpu_count() or 1),
        disk_bytes=shutil.disk_usage(directory).total,
    )


def _bytes(mebibytes: int | None) -> int | None:
    return None if mebibytes is None else mebibytes * MIB
