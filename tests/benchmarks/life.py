"""Pausing, resuming and ending sandboxes: at the runtime, and as a client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable

from code_interpreter import Sandbox
from code_interpreter.host import cgroup_search
from code_interpreter.host.runtimes.namespaces import box_name, data_digest
from tests.benchmarks.samples import Row, Samples
from tests.service import Service

ROUNDS = 50
KILLS = 20
BREATH = 0.02
"""Seconds between two pauses: a sandbox that runs does something."""
TARGET = "≤ 5 ms"


def measure(service: Service) -> list[Row]:
    with Sandbox.create(timeout=600) as sandbox:
        sandbox.run_code("import numpy, pandas, matplotlib.pyplot")
        rows = [*_freezer(service, sandbox), *_calls(sandbox)]
    kill = Samples("kill, the call")
    for _ in range(KILLS):
        doomed = Sandbox.create(timeout=600)
        doomed.run_code("1 + 1")
        kill.add(_time(doomed.kill))
    return [*rows, kill.row()]


def _freezer(service: Service, sandbox: Sandbox) -> list[Row]:
    groups = cgroup_search.find(f"code-interpreter-{data_digest(service.data)}")
    name = box_name(sandbox.sandbox_id)
    pause, resume = Samples("pause, the runtime"), Samples("resume, the runtime")
    for _ in range(ROUNDS):
        pause.add(_time(lambda: groups.freeze(name, frozen=True)))
        resume.add(_time(lambda: groups.freeze(name, frozen=False)))
        time.sleep(BREATH)
    return [pause.row(target=TARGET), resume.row(target=TARGET)]


def _calls(sandbox: Sandbox) -> list[Row]:
    pause, resume = Samples("pause, the call"), Samples("resume, the call")
    first = Samples("resume to the first 1+1")
    for _ in range(ROUNDS):
        pause.add(_time(sandbox.pause))
        began = time.perf_counter()
        resume.add(_time(lambda: sandbox.connect(timeout=600)))
        sandbox.run_code("1 + 1")
        first.add(time.perf_counter() - began)
    return [pause.row(), resume.row(), first.row()]


def _time(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
