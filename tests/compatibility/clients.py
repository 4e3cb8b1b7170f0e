"""Releases of E2B's clients, each installed in a place of its own outside this project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.service import cache_directory

INSTALL_SECONDS = 300
CALLS_SECONDS = 180
OWN_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Seen:
    """What one release saw: call → "ok", "absent" or what went wrong."""

    client: str
    version: str
    calls: Mapping[str, str]

    @property
    def failures(self) -> dict[str, str]:
        return {name: came for name, came in self.calls.items() if came not in ("ok", "absent")}


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
    place = cache_directory() / f"e2b-npm-{version}"
    if not (place / "installed").exists():
        place.mkdir(exist_ok=True)
        options = ["--no-audit", "--no-fund", "--silent", "--prefix", str(place)]
        _install(["npm", "install", *options, f"e2b@{version}"])
        (place / "installed").touch()
    # Node looks for packages beside the script.
    script = shutil.copy(OWN_FOLDER / "calls.mjs", place / "calls.mjs")
    return _run("npm", ["node", str(script)], environment)


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
    seen = json.loads(done.stdout.splitlines()[-1])
    return Seen(client, seen["version"], seen["calls"])
