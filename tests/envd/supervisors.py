"""The supervisors of a sandbox, seen from this machine."""

from __future__ import annotations

from pathlib import Path

import psutil

from code_interpreter.host.runtimes.namespaces import box_name
from tests.linux import user_namespace


def memory(sandbox_id: str) -> int:
    """Bytes of init, envd and the gateway that are their own. Raises LookupError without any."""
    return sum(process.memory_full_info().uss for process in processes(sandbox_id))


def reset_peak(pid: int) -> int:
    """Forget how much memory a process has had; bytes that it has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def peak(pid: int) -> int:
    """The most bytes of memory that a process has had since `reset_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def processes(sandbox_id: str) -> list[psutil.Process]:
    """Init, then envd and the gateway. Raises LookupError without init."""
    name = box_name(sandbox_id)
    inside = [process for process in psutil.process_iter() if _is_in(process.pid, name)]
    pids = {process.pid for process in inside}
    init = [process for process in inside if process.ppid() not in pids]
    if len(init) != 1:
        raise LookupError(f"no init of sandbox {sandbox_id} among {pids}")
    namespace = user_namespace(init[0].pid)
    children = [each for each in init[0].children() if user_namespace(each.pid) == namespace]
    return [init[0], *children]


def _is_in(pid: int, name: str) -> bool:
    try:
        return name in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
