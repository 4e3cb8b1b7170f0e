"""One host with isolation for all attacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.running import RunningHost, running_host


@pytest.fixture(scope="session")
def isolated_host(prepared_templates: Path) -> Iterator[RunningHost]:
    env = {"CODE_INTERPRETER_TEMPLATES_DIR": str(prepared_templates)}
    with running_host("--runtime", "namespaces", env=env) as host:
        yield host
