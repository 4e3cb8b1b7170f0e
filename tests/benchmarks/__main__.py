"""``python -m tests.benchmarks [edge] [run_code] [create]``: a table, then JSON."""

from __future__ import annotations

import os
import sys

from tests.benchmarks import edge, whole_way
from tests.benchmarks.samples import show
from tests.service import running_service

_ALONE = {"edge": edge.measure}
_ON_A_HOST = {"run_code": whole_way.run_code, "create": whole_way.create}


def main(names: list[str]) -> None:
    known = [*_ALONE, *_ON_A_HOST]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"{unknown[0]!r} is not a benchmark; there are {', '.join(known)}")
    wanted = names or known
    rows = [row for name in wanted if name in _ALONE for row in _ALONE[name]()]
    if any(name in _ON_A_HOST for name in wanted):
        with running_service() as service:
            os.environ.update(service.environment)
            rows += [row for name in wanted if name in _ON_A_HOST for row in _ON_A_HOST[name]()]
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
