"""How fast a sandbox, a context or a language is there, to its first result.

A host with a warm pool, and one without a pool; full isolation; the end of a sandbox does
not count. Beside it stands what a plain kernel costs alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from code_interpreter import Sandbox
from tests.benchmarks.contestants import bare
from tests.benchmarks.samples import Row, Samples
from tests.benchmarks.whole_way import bare_kernel
from tests.service import Service

CREATES = 200
AT_ONCE = 20
"""Also what a host is told to make ahead, if it makes anything ahead."""
BURSTS = 5
BETWEEN_BURSTS = 5.0
"""Seconds for the host to do away with what a burst left, and to get ready for the next."""
LIVE = 15
"""Sandboxes in which contexts and languages are measured."""
IMPORTS = "import numpy, pandas, matplotlib.pyplot"
DENO_SECONDS = 1.0
"""That it takes to start at most, once the pool says that it does."""
LANGUAGES = {"bash": "echo 1", "javascript": "1 + 1", "java": "1 + 1"}
POOL_DEADLINE = 60.0


def pool_warm(service: Service) -> list[Row]:
    """For a host with a pool."""
    cold, first = Samples("a plain kernel alone, 1+1"), Samples("create → 1+1, pool warm")
    imports = Samples("create → import pandas …, pool warm")
    straight = Samples("create → 1+1, one right after another")
    for number in range(CREATES):
        if number % 20 == 0:
            cold.add(_time_alone())
        _until_filled(service)
        _create(first, "1+1")
        if number % 4 == 0:
            _until_filled(service)
            _create(imports, IMPORTS)
    _until_filled(service)
    for _ in range(CREATES):
        _create(straight, "1+1")
    return [
        cold.row(),
        first.row(baseline=cold, target="≤ 25, p95 ≤ 60"),
        imports.row(baseline=cold, target="≤ 30"),
        straight.row(baseline=cold),
        *bursts(service, "again within a minute", target=""),
        *_in_a_live_sandbox(service, cold),
    ]


def nothing_ahead() -> list[Row]:
    """For a host without a pool that furnishes nothing ahead either."""
    cold, one = Samples("a plain kernel alone, 1+1"), Samples("create → 1+1, nothing made ahead")
    whole = Samples(f"create → 1+1, {AT_ONCE} at once, nothing made ahead")
    for _ in range(AT_ONCE):
        cold.add(_time_alone())
        _create(one, "1+1")
    for _ in range(BURSTS):
        _burst(whole)
        time.sleep(BETWEEN_BURSTS)
    return [cold.row(), one.row(baseline=cold), whole.row(baseline=cold)]


def bursts(service: Service, which: str, *, target: str) -> list[Row]:
    """For a host that has made something ahead."""
    cold = Samples("a plain kernel alone, 1+1")
    together = Samples(f"create → 1+1, {AT_ONCE} at once, {which}")
    for _ in range(BURSTS):
        _until_filled(service)
        cold.add(_time_alone())
        _burst(together)
    return [cold.row(), together.row(baseline=cold, target=target)]


def _in_a_live_sandbox(service: Service, cold: Samples) -> list[Row]:
    context = Samples("further Python context → 1+1")
    languages = {name: Samples(f"first {name} cell") for name in LANGUAGES}
    deno = Samples("a plain Deno kernel alone, 1 + 1")
    for _ in range(3):
        deno.add(_time_deno())
    for _ in range(LIVE):
        _until(service, lambda held: bool(held["warm"]))
        time.sleep(DENO_SECONDS)
        with Sandbox.create() as sandbox:
            sandbox.run_code("1+1")
            _measure(context, partial(_run_in_new_context, sandbox))
            for name, code in LANGUAGES.items():
                _measure(languages[name], partial(sandbox.run_code, code, language=name))
    targets = {"bash": "≤ 60", "javascript": "≤ 60", "java": ""}
    return [
        context.row(baseline=cold, target="≤ 50"),
        deno.row(),
        *(
            samples.row(
                baseline=deno if name == "javascript" else cold,
                target=targets[name],
            )
            for name, samples in languages.items()
        ),
    ]


def _run_in_new_context(sandbox: Sandbox) -> None:
    sandbox.run_code("1+1", context=sandbox.create_code_context())


def _burst(samples: Samples) -> None:
    """They end when the last has its result: in the first second, nobody's sandbox ends."""
    made: list[Sandbox] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda _: _measure(samples, partial(_first, made, "1+1")), range(AT_ONCE)))
    for sandbox in made:
        sandbox.kill()


def _create(samples: Samples, code: str) -> None:
    made: list[Sandbox] = []
    _measure(samples, partial(_first, made, code))
    for sandbox in made:
        sandbox.kill()


def _first(made: list[Sandbox], code: str) -> None:
    sandbox = Sandbox.create()
    made.append(sandbox)
    assert sandbox.run_code(code).error is None


def _measure(samples: Samples, action: Callable[[], object]) -> None:
    started = time.perf_counter()
    try:
        action()
    except Exception as error:
        samples.failed += 1
        print(f"{samples.name}: {error!r}")
    else:
        samples.add(time.perf_counter() - started)


def _time_alone() -> float:
    started = time.perf_counter()
    with bare_kernel() as run:
        run()
        return time.perf_counter() - started


def _time_deno() -> float:
    started = time.perf_counter()
    with bare("javascript") as kernel:
        kernel.run("1 + 1")
        return time.perf_counter() - started


def _until_filled(service: Service) -> None:
    """All is made ahead that the host wants."""
    _until(
        service,
        lambda held: (
            held["ready"] >= held["wanted"] and held["ready"] + held["furnished"] >= AT_ONCE
        ),
    )


def _until(service: Service, fits: Callable[[dict[str, int]], bool]) -> None:
    deadline = time.monotonic() + POOL_DEADLINE
    headers = {"X-API-KEY": service.key}
    while time.monotonic() < deadline:
        held = httpx.get(f"{service.url}/pool", headers=headers, trust_env=False).json()
        if fits(held):
            return
        time.sleep(0.05)
    raise TimeoutError("the pool does not get ready")
