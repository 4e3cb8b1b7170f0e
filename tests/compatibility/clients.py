"""Releases of E2B's clients, each installed in a place of its own outside this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests import npm
from tests.compatibility.seen import Seen
from tests.service import cache_directory

INSTALL_SECONDS = 300
CALLS_SECONDS = 180
OWN_FOLDER = Path(__file__).parent


def run_installed(environment: Mapping[str, str]) -> Seen:
    """With the release of ``e2b`` that our own environment has."""
    return _run("python", [sys.executable, str(OWN_FOLDER / "calls.py")], environment)


def run_python(version: str, environment: Mapping[str, str]) -> Seen:
    """With that release from PyPI."""
    place = cache_directory() / f"e2b-python-{version}"
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        _install([sys.executable, "-m", "venv", "--clear", str(place)])
        _install([str(python), "-m", "pip", "install", "-qq", f"e2b=={version}"])
        (place / "installed").touch()
    return _run("python", [str(python), str(OWN_FOLDER / "calls.py")], environment)


def run_npm(version: str, environment: Mapping[str, str]) -> Seen:
    """With that release from npm."""
    packages = npm.installed(f"e2b@{version}")
    return _seen("npm", packages.run(OWN_FOLDER / "calls.mjs", {**os.environ, **environment}))


def _install(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")


def _run(client: str, command: list[str], environment: Mapping[str, str]) -> Seen:
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=CALLS_SECONDS,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{client} client: {done.stderr[-2000:]}")
    return _seen(client, done.stdout)


def _seen(client: str, printed: str) -> Seen:
    seen = json.loads(printed.splitlines()[-1])
    return Seen(client, seen["version"], seen["calls"])
