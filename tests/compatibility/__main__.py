"""``python -m tests.compatibility``: runs old and new clients and writes the table."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.compatibility.cli import run_cli
from tests.compatibility.clients import run_npm, run_python
from tests.compatibility.table import render
from tests.service import running_service

PYTHON = ("2.7.0", "2.21.0", "2.37.1", "2.45.1", "2.55.1", "2.63.0")
NPM = ("2.7.0", "2.23.0", "2.39.0", "2.51.0")
CLI = ("2.4.2", "2.10.3", "2.16.0", "2.19.0")
TABLE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def main() -> None:
    with running_service() as service:
        columns = [run_python(version, service.environment) for version in PYTHON]
        columns += [run_npm(version, service.environment) for version in NPM]
        columns += [run_cli(version, service.environment) for version in CLI]
    TABLE.write_text(render(columns))
    failures = [column for column in columns if column.failures]
    for column in failures:
        print(f"{column.client} {column.version}: {dict(column.failures)}", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
