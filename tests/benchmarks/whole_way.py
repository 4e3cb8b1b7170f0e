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
_DEADLINE = 60


@contextmanager
def bare_kernel() -> Iterator[Callable[[], None]]:
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
    with bare_kernel() as plain, Sandbox.create() as sandbox:
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
