"""What the sandbox uses now."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil

_MEBIBYTE = 1024 * 1024
_NO_LIMIT = 1 << 60


class Meter:
    """Reads the box's control groups where it can, else the machine's figures."""

    def __init__(self, state_directory: str) -> None:
        self._groups = Path(state_directory, "cgroup")
        self._last = Path(state_directory, "meter.json")

    def read(self) -> dict[str, Any]:
        """The body of ``GET /metrics``. Memory and disk in bytes; cpu in percent of one core."""
        used, total, cache = self._memory()
        disk = psutil.disk_usage("/")
        return {
            "ts": int(time.time()),
            "cpu_count": self._cpu_count(),
            "cpu_used_pct": round(self._cpu_percent(), 2),
            "mem_total": total,
            "mem_used": used,
            "mem_cache": cache,
            "mem_total_mib": total // _MEBIBYTE,
            "mem_used_mib": used // _MEBIBYTE,
            "disk_used": disk.used,
            "disk_total": disk.total,
        }

    def _number(self, *names: str) -> int | None:
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                return int((self._groups / name).read_text().split()[0])
        return None

    def _memory(self) -> tuple[int, int, int]:
        machine = psutil.virtual_memory()
        used = self._number("memory/memory.usage_in_bytes", "unified/memory.current")
        limit = self._number("memory/memory.limit_in_bytes", "unified/memory.max")
        cache = self._statistic("cache") or self._statistic("file") or 0
        total = machine.total if limit is None or limit > _NO_LIMIT else limit
        if used is None:
            return machine.used, total, int(getattr(machine, "cached", 0))
        return max(0, used - cache), min(total, machine.total), cache

    def _statistic(self, name: str) -> int | None:
        for file in ("memory/memory.stat", "unified/memory.stat"):
            with contextlib.suppress(OSError, ValueError):
                for line in (self._groups / file).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == name:
                        return int(value)
        return None

    def _cpu_count(self) -> int:
        quota = self._number("cpu/cpu.cfs_quota_us", "unified/cpu.max")
        period = self._number("cpu/cpu.cfs_period_us") or 100_000
        if quota is not None and quota > 0:
            return max(1, round(quota / period))
        return os.cpu_count() or 1

    def _cpu_seconds(self) -> float:
        nanoseconds = self._number("cpuacct/cpuacct.usage")
        if nanoseconds is not None:
            return nanoseconds / 1e9
        with contextlib.suppress(OSError):
            for line in (self._groups / "unified/cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec"):
                    return int(line.split()[1]) / 1e6
        times = psutil.cpu_times()
        return float(times.user + times.system)

    def _cpu_percent(self) -> float:
        """Since the last reading, maybe by an earlier envd; 0 for the first."""
        now, used = time.monotonic(), self._cpu_seconds()
        before = self._replace_last(now, used)
        if before is None or now <= before[0]:
            return 0.0
        return 100 * (used - before[1]) / (now - before[0])

    def _replace_last(self, now: float, used: float) -> tuple[float, float] | None:
        before = None
        with contextlib.suppress(OSError, ValueError):
            then, was = json.loads(self._last.read_text())
            before = (float(then), float(was))
        with contextlib.suppress(OSError):
            self._last.write_text(json.dumps([now, used]))
        return before
