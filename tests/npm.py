"""Packages of npm, unmodified, each set installed once in a place outside this project."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.service import cache_directory, made_once

CODE_INTERPRETER = "@e2b/code-interpreter@^2.8.0"
BASE = "e2b@^2.51.0"
INSTALL_SECONDS = 300
RUN_SECONDS = 120
_OLDEST_NODE = 20
_NODE = "node@22"
"""Installed beside them where the machine's own Node is older than they need."""


@dataclass(frozen=True)
class Packages:
    """A directory with packages in it, and the Node that runs them."""

    directory: Path
    node: str

    def program(self, name: str) -> list[str]:
        """What starts a program that one of the packages brings."""
        return [self.node, str(self.directory / "node_modules" / ".bin" / name)]

    def run(self, script: Path, environment: Mapping[str, str]) -> str:
        """What a script printed; it is copied to where Node finds the packages."""
        place = self.directory / script.name
        shutil.copy(script, own := place.with_suffix(f".{os.getpid()}"))
        own.rename(place)  # at once: another test may be running it
        done = subprocess.run(
            [self.node, str(place)],
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{script.name}: {done.stderr[-2000:]}")
        return done.stdout


@functools.cache
def installed(*packages: str) -> Packages:
    """Packages as ``npm install`` names them, from the registry or from an earlier run."""
    if shutil.which("npm") is None:
        pytest.fail("Node is needed: apt-get install nodejs npm, or run with -m 'not npm'")
    wanted = [*packages] if _machine_node() >= _OLDEST_NODE else [*packages, _NODE]
    directory = cache_directory() / "npm" / re.sub(r"[^\w.]+", "-", " ".join(wanted)).strip("-")
    with made_once(directory) as is_made:
        if not is_made:
            _install(directory, wanted)
    own = directory / "node_modules" / ".bin" / "node"
    return Packages(directory, str(own) if own.exists() else "node")


def _machine_node() -> int:
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(version.stdout.removeprefix("v").partition(".")[0])


def _install(directory: Path, wanted: list[str]) -> None:
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory)]
    done = subprocess.run(
        [*command, *wanted], capture_output=True, text=True, timeout=INSTALL_SECONDS
    )
    if done.returncode != 0:
        raise RuntimeError(f"npm install {' '.join(wanted)}: {done.stderr[-2000:]}")
