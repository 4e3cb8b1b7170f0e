"""How many sandboxes a machine holds: memory, idle cpu and latency against their number.

``python -m tests.benchmarks.density [--steps 1 10 100 500] [--json FILE] [--plot FILE]``

Each sandbox is idle, with a live Python kernel that has imported numpy, pandas and
matplotlib. Change in available memory is the machine's: measure on one that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from code_interpreter import Sandbox
from tests.benchmarks.density_plot import plot
from tests.benchmarks.samples import Samples
from tests.service import Service, running_service

IMPORTS = "import numpy, pandas, matplotlib.pyplot; 1 + 1"
SETTLE_SECONDS = 25.0
"""Until a sandbox is idle: envd, if nobody needs it, ends meanwhile."""
WATCH_SECONDS = 10.0
STAND_OUT = 50
"""Sandboxes."""
PROBES = 40
_MIB = 1 << 20


@dataclass(frozen=True)
class Point:
    """At one number of idle sandboxes. Memory and wake-ups are of one sandbox."""

    sandboxes: int
    available_mib: float | None
    """Change of the machine's available memory by each that came since the last point; None if
    these were too few to stand out from what else the machine does."""
    pss_mib: float
    """Proportional set size: what n processes share counts 1/n for each."""
    processes: float
    wakeups_per_second: float
    host_cpu_percent: float
    """Of one core: the host process and its fork server."""
    create_p50: float
    """Milliseconds from create to the first result of the imports."""
    create_p95: float
    run_p50: float
    """Milliseconds of ``run_code("1 + 1")``, each in another sandbox than the one before."""
    run_p95: float


def measure(steps: list[int], service: Service) -> list[Point]:
    options = {**service.options, "timeout": 3600}
    boxes: list[Sandbox] = []
    _ready(options).kill()
    time.sleep(SETTLE_SECONDS)
    points = []
    with ThreadPoolExecutor(2) as pool:
        for step in steps:
            before, more = psutil.virtual_memory().available, step - len(boxes)
            boxes += pool.map(lambda _: _ready(options), range(more))
            time.sleep(SETTLE_SECONDS)
            used = before - psutil.virtual_memory().available
            each = round(used / more / _MIB, 1) if more >= STAND_OUT else None
            points.append(_point(boxes, each, service, options))
            show(points[-1:])
        list(pool.map(lambda box: box.kill(), boxes))
    return points


def _ready(options: dict[str, Any]) -> Sandbox:
    box = Sandbox.create(**options)
    assert box.run_code(IMPORTS).text == "2"
    return box


def _point(
    boxes: list[Sandbox], available: float | None, service: Service, options: dict[str, Any]
) -> Point:
    host = psutil.Process(service.process.pid)
    family = [host, *host.children()]
    inside = [each for server in host.children() for each in server.children(recursive=True)]
    inits = sum(len(server.children()) for server in host.children())
    pss = sum(_pss(process.pid) for process in inside)
    start, spent, woken = time.monotonic(), _cpu(family), sum(map(_wakeups, inside))
    time.sleep(WATCH_SECONDS)
    seconds = time.monotonic() - start
    percent = 100 * (_cpu(family) - spent) / seconds
    wakeups = (sum(map(_wakeups, inside)) - woken) / seconds
    create, run = _probe(boxes, options)
    return Point(
        sandboxes=len(boxes),
        available_mib=available,
        pss_mib=round(pss / inits / _MIB, 1),
        processes=round(len(inside) / inits, 2),
        wakeups_per_second=round(wakeups / inits, 2),
        host_cpu_percent=round(percent, 2),
        create_p50=round(create.p50, 1),
        create_p95=round(create.percentile(95), 1),
        run_p50=round(run.p50, 2),
        run_p95=round(run.percentile(95), 2),
    )


def _probe(boxes: list[Sandbox], options: dict[str, Any]) -> tuple[Samples, Samples]:
    create, run = Samples("create"), Samples("run")
    for _ in range(PROBES):
        began = time.perf_counter()
        extra = _ready(options)
        create.add(time.perf_counter() - began)
        extra.kill()
    for probe in range(PROBES):
        box = boxes[probe * len(boxes) // PROBES]
        box.run_code("1 + 1")  # opens the connection
        began = time.perf_counter()
        box.run_code("1 + 1")
        run.add(time.perf_counter() - began)
    return create, run


def _cpu(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line[:4] == "Pss:")


def _wakeups(process: psutil.Process) -> int:
    """How often its threads went to sleep."""
    total = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        total += int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total


def show(points: list[Point]) -> None:
    """The table that docs/benchmarks.md has."""
    titles = {
        "sandboxes": "idle sandboxes",
        "available_mib": "available memory, MiB each further",
        "pss_mib": "PSS, MiB each",
        "processes": "processes each",
        "wakeups_per_second": "wake-ups/s each",
        "host_cpu_percent": "host cpu, % of a core",
        "create_p50": "create p50 ms",
        "create_p95": "p95 ms",
        "run_p50": "run_code p50 ms",
        "run_p95": "p95 ms",
    }
    table = Table(*titles.values())
    for point in points:
        values = asdict(point)
        table.add_row(*("" if values[name] is None else str(values[name]) for name in titles))
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10, 100, 500])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    most = str(max(options.steps) + 20)
    with running_service(CODE_INTERPRETER_MAX_SANDBOXES=most) as service:
        points = measure(sorted(options.steps), service)
    show(points)
    text = json.dumps([asdict(point) for point in points], indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    if options.plot:
        plot([asdict(point) for point in points], options.plot)


if __name__ == "__main__":
    main()
