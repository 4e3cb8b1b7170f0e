"""How many sandboxes a machine holds: memory, idle cpu and latency against their number.

Each sandbox has a live Python kernel with numpy, pandas and matplotlib imported.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from code_interpreter import Sandbox
from tests.benchmarks.samples import Samples
from tests.service import Service, running_service

IMPORTS = "import numpy, pandas, matplotlib.pyplot; 1 + 1"
SETTLE_SECONDS = 10.0
PROBES = 20


@dataclass(frozen=True)
class Point:
    """At one number of sandboxes; MiB, milliseconds, percent of one core."""

    sandboxes: int
    available_mib_each: float
    pss_mib_each: float
    host_cpu_percent: float
    create_p50: float
    create_p95: float
    run_p50: float
    run_p99: float


def measure(steps: list[int], service: Service) -> list[Point]:
    options = {**service.options, "timeout": 3600}
    boxes: list[Sandbox] = []
    before = psutil.virtual_memory().available
    points = []
    for step in steps:
        with ThreadPoolExecutor(2) as pool:
            boxes += pool.map(lambda _: _ready(options), range(step - len(boxes)))
        time.sleep(SETTLE_SECONDS)
        points.append(_point(boxes, before, service, options))
        print(json.dumps(asdict(points[-1])), flush=True)
    for box in boxes:
        box.kill()
    return points


def _ready(options: dict[str, object]) -> Sandbox:
    box = Sandbox.create(**options)  # type: ignore[arg-type]
    assert box.run_code(IMPORTS).text == "2"
    return box


def _point(
    boxes: list[Sandbox], before: int, service: Service, options: dict[str, object]
) -> Point:
    used = (before - psutil.virtual_memory().available) / len(boxes) / 2**20
    pss = _pss_of_boxes(service) / len(boxes) / 2**20
    host = psutil.Process(service.process.pid)
    family = [host, *host.children()]
    start, spent = time.monotonic(), _cpu(family)
    time.sleep(SETTLE_SECONDS)
    percent = 100 * (_cpu(family) - spent) / (time.monotonic() - start)
    create, run = Samples("create"), Samples("run")
    for probe in range(PROBES):
        began = time.perf_counter()
        extra = _ready(options)
        create.add(time.perf_counter() - began)
        extra.kill()
        box = boxes[probe * len(boxes) // PROBES]
        box.run_code("1 + 1")
        began = time.perf_counter()
        box.run_code("1 + 1")
        run.add(time.perf_counter() - began)
    return Point(
        len(boxes),
        round(used, 1),
        round(pss, 1),
        round(percent, 2),
        round(create.p50, 1),
        round(create.percentile(95), 1),
        round(run.p50, 2),
        round(run.percentile(99), 2),
    )


def _cpu(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _pss_of_boxes(service: Service) -> int:
    """Of every process below the fork server: memory shared by n counts 1/n, in bytes."""
    total = 0
    host = psutil.Process(service.process.pid)
    for child in host.children():
        for process in child.children(recursive=True):
            try:
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(
                int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
            )
    return total * 1024


def plot(points: list[Point], target: Path) -> None:
    """Memory and latency against the number of sandboxes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    numbers = [point.sandboxes for point in points]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    left.plot(numbers, [p.available_mib_each for p in points], "o-", label="available memory")
    left.plot(numbers, [p.pss_mib_each for p in points], "s--", label="PSS of its processes")
    left.axhline(30, color="grey", linewidth=1, linestyle=":", label="target")
    left.set(xlabel="idle sandboxes", ylabel="MiB for each", ylim=(0, None))
    left.set_title("Memory of a sandbox with a live kernel")
    left.legend()
    right.plot(numbers, [p.create_p50 for p in points], "o-", label="create to first result, p50")
    right.plot(numbers, [p.run_p50 for p in points], "s-", label="run_code('1 + 1'), p50")
    right.set(xlabel="idle sandboxes", ylabel="milliseconds", yscale="log")
    right.set_title("Latency")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with running_service() as service:
        points = measure(options.steps, service)
    print(json.dumps([asdict(point) for point in points]))
    if options.plot:
        plot(points, options.plot)


if __name__ == "__main__":
    main()
