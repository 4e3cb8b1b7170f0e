"""``python -m tests.benchmarks [name …]``, the names below: a table, then JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from tests.benchmarks import base_sdk, edge, kernels, life, start, whole_way
from tests.benchmarks.samples import Row, show
from tests.service import running_service


def run_code() -> list[Row]:
    with running_service() as service:
        os.environ.update(service.environment)
        return whole_way.run_code()


def in_kernels() -> list[Row]:
    with running_service() as service:
        os.environ.update(service.environment)
        return kernels.measure(service.process.pid)


def create() -> list[Row]:
    half = {"CODE_INTERPRETER_FURNISHED_MAX": str(start.AT_ONCE)}  # as it is by default
    whole = {"CODE_INTERPRETER_POOL_MAX": str(start.AT_ONCE), **half}
    ahead = {"CODE_INTERPRETER_WARM_LANGUAGES": "javascript", **whole}
    with running_service(CODE_INTERPRETER_POOL_SIZE="4", **ahead) as service:
        os.environ.update(service.environment)
        rows = start.pool_warm(service)
    never_more = {"CODE_INTERPRETER_POOL_SIZE": "2", "CODE_INTERPRETER_POOL_MAX": "2"}
    with running_service(**never_more, **half) as service:
        os.environ.update(service.environment)
        rows += start.bursts(service, "unforeseen", target="")
    with running_service(CODE_INTERPRETER_POOL_SIZE="0", **half) as service:
        os.environ.update(service.environment)
        rows += start.bursts(service, "pool empty", target="≤ 150")
    with running_service(CODE_INTERPRETER_POOL_SIZE="0") as service:
        os.environ.update(service.environment)
        return rows + start.nothing_ahead()


def on_a_host(benchmark: Callable[[], list[Row]]) -> Callable[[], list[Row]]:
    def run() -> list[Row]:
        with running_service() as service:
            os.environ.update(service.environment)
            return benchmark()

    return run


def lives() -> list[Row]:
    with running_service() as service:
        os.environ.update(service.environment)
        return life.measure(service)


BENCHMARKS = {
    "edge": edge.measure,
    "run_code": run_code,
    "create": create,
    "kernels": in_kernels,
    "life": lives,
    "commands": on_a_host(base_sdk.commands),
    "files": on_a_host(base_sdk.files),
    "watching": on_a_host(base_sdk.watching),
}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"{unknown[0]!r} is not a benchmark; there are {', '.join(BENCHMARKS)}")
    show([row for name in names or BENCHMARKS for row in BENCHMARKS[name]()])


if __name__ == "__main__":
    main(sys.argv[1:])
