"""Packages of PyPI, unmodified, each set installed once in a place outside this project."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

from tests.service import cache_directory, made_once

INSTALL_SECONDS = 300


@functools.cache
def python_with(*requirements: str) -> Path:
    """A Python that has packages as ``pip install`` names them."""
    name = re.sub(r"[^\w.]+", "-", " ".join(requirements)).strip("-")
    place = cache_directory() / "pypi" / name
    python = place / "bin" / "python"
    with made_once(place) as is_made:
        if not is_made:
            _run([sys.executable, "-m", "venv", "--clear", str(place)])
            _run([str(python), "-m", "pip", "install", "-qq", *requirements])
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
