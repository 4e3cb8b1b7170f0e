"""How a kernel's process ended, and what it had used."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from code_interpreter.protocol.executions import Cause

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None

    @classmethod
    def of(cls, usage: resource.struct_rusage) -> Usage:
        return cls(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """What the sandbox may use and has used at most, in bytes; None: not known."""

    limit_bytes: int | None = None
    peak_bytes: int | None = None

    def text(self) -> str:
        if self.limit_bytes is None:
            return "ran out of memory, with all that the machine has, and was killed"
        peak = "" if self.peak_bytes is None else f", its peak {self.peak_bytes / MIB:.0f} MiB"
        limit = f"{self.limit_bytes / MIB:.0f} MiB"
        return f"ran out of memory and was killed (the sandbox's limit is {limit}{peak})"


@dataclass(frozen=True, slots=True)
class KernelEnd:
    """How a kernel's process ended."""

    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: OutOfMemory | None = None
    usage: Usage | None = None
    """Of its whole life; None if its parent did not tell."""

    @classmethod
    def of_status(cls, status: int, usage: resource.struct_rusage) -> KernelEnd:
        """What ``os.wait4`` has given."""
        code = os.waitstatus_to_exitcode(status)
        used = Usage.of(usage)
        return cls(signal=-code, usage=used) if code < 0 else cls(exit_code=code, usage=used)

    def cause(self) -> Cause:
        if self.out_of_memory is not None:
            return Cause.OOM
        return Cause.SIGNAL if self.signal is not None else Cause.EXIT

    def text(self) -> str:
        if self.out_of_memory is not None:
            return self.out_of_memory.text()
        if self.signal is not None:
            return f"was ended by signal {self.signal}"
        if self.exit_code is None:
            return "ended, nobody can say how,"
        return f"exited with code {self.exit_code}"
