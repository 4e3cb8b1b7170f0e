"""Runs programs that use other projects' packages, each with the packages of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import npm, pypi

PROGRAMS = Path(__file__).parent / "programs"
RUN_SECONDS = 240
NODE = "node@22"
"""For packages that the machine's own Node is too old for."""
SLOW = [pytest.mark.slow, pytest.mark.timeout(2 * pypi.INSTALL_SECONDS + RUN_SECONDS)]
"""Marks of a module of these tests: hundreds of MB that nothing else here needs."""


def run_python(told: Mapping[str, str], program: str, *requirements: str) -> dict[str, Any]:
    """What a program saw that was told nothing but these variables."""
    python = pypi.python_with(*requirements)
    done = subprocess.run(
        [str(python), str(PROGRAMS / program)],
        env=_environment(told),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return _last_line(done.stdout)


def run_node(told: Mapping[str, str], program: str, *packages: str) -> dict[str, Any]:
    """The same of a program for Node."""
    return _last_line(npm.installed(*packages).run(PROGRAMS / program, _environment(told)))


def _environment(told: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("E2B_")}
    return {**kept, **told}


def _last_line(printed: str) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return seen
