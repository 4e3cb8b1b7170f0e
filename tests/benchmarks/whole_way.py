"""The whole way, client to kernel and back, beside a kernel asked without anything between."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.manager import KernelManager

from code_interpreter import Sandbox
from tests.benchmarks.samples import Row, Samples

ROUNDS = 500
WARM_UP = 30
CREATES = 20
IMPORTS = "import numpy, pandas, matplotlib.pyplot"
POOL_SECONDS = 1.0
"""For the pool to fill again between two samples."""
_DEADLINE = 60


@contextmanager
def _bare_kernel() -> Iterator[Callable[[], None]]:
    """One ``1+1`` on a plain ipykernel over jupyter_client: reply read, idle awaited."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=_DEADLINE)

    def run() -> None:
        number = client.execute("1+1", store_history=False)
        client.get_shell_msg(timeout=_DEADLINE)
        while True:
            message: dict[str, Any] = client.get_iopub_msg(timeout=_DEADLINE)
            if message["parent_header"].get("msg_id") != number:
                continue
            if message["content"].get("execution_state") == "idle":
                return

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _time(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def run_code() -> list[Row]:
    """The three in turn, so that the machine's mood hits all."""
    bare, ours = Samples("1+1, bare jupyter_client"), Samples("1+1, run_code")
    theirs = Samples("1+1, run_code of E2B's client")
    with _bare_kernel() as plain, Sandbox.create() as sandbox:
        other = importlib.import_module("e2b_code_interpreter").Sandbox.connect(sandbox.sandbox_id)
        ways: list[tuple[Samples, Callable[[], object]]] = [
            (bare, plain),
            (ours, lambda: sandbox.run_code("1+1")),
            (theirs, lambda: other.run_code("1+1")),
        ]
        for number in range(ROUNDS + WARM_UP):
            for samples, action in ways:
                seconds = _time(action)
                if number >= WARM_UP:
                    samples.add(seconds)
    return [
        bare.row(),
        ours.row(baseline=bare, target="≤ 1.0 of bare, p99 ≤ 3 p50"),
        theirs.row(baseline=bare),
    ]


def create(*, pooled: bool) -> list[Row]:
    """From nothing to the first result; what a kernel costs alone is beside it."""
    kind = "pool warm" if pooled else "pool empty"
    cold = Samples("first 1+1, a kernel alone")
    first, imports = Samples(f"first 1+1, {kind}"), Samples(f"first import of pandas …, {kind}")
    for number in range(CREATES + 2):
        if number % 4 == 0:
            cold.add(_time_alone())
        for samples, code in ((first, "1+1"), (imports, IMPORTS)):
            time.sleep(POOL_SECONDS if pooled else 0)
            seconds = _time_create(code)
            if number >= 2:
                samples.add(seconds)
    targets = ("≤ 25 ms", "≤ 30 ms") if pooled else ("", "")
    return [
        cold.row(),
        first.row(baseline=cold, target=targets[0]),
        imports.row(baseline=cold, target=targets[1]),
    ]


def _time_alone() -> float:
    started = time.perf_counter()
    with _bare_kernel() as run:
        run()
        return time.perf_counter() - started


def _time_create(code: str) -> float:
    """Until the first result; the end of the sandbox does not count."""
    started = time.perf_counter()
    with Sandbox.create() as sandbox:
        execution = sandbox.run_code(code)
        seconds = time.perf_counter() - started
    assert execution.error is None, execution.error
    return seconds
