"""E2B's npm packages on Node, unmodified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service, cache_directory

PACKAGES = ["@e2b/code-interpreter@^2.8.0", "e2b@^2.51.0"]
NODE = "node@22"
"""Installed beside them where the machine's own Node is older than 20, which they need."""
INSTALL_SECONDS = 300
SCRIPTS = Path(__file__).parent
pytestmark = [pytest.mark.npm, pytest.mark.timeout(INSTALL_SECONDS + 60)]


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """A directory outside of this project where the packages are installed."""
    directory = cache_directory() / "npm"
    packages = [*PACKAGES] if machine_node_version() >= 20 else [*PACKAGES, NODE]
    marker = directory / "installed"
    if not marker.is_file() or marker.read_text() != " ".join(packages):
        directory.mkdir(exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory)]
        subprocess.run([*command, *packages], check=True, timeout=INSTALL_SECONDS)
        marker.write_text(" ".join(packages))
    return directory


def machine_node_version() -> int:
    if shutil.which("npm") is None:
        pytest.fail("Node is needed: apt-get install nodejs npm, or run with -m 'not npm'")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(version.stdout.removeprefix("v").partition(".")[0])


def run(script: str, node_modules: Path) -> dict[str, Any]:
    """What a script saw. It is copied to where Node finds the packages."""
    place = node_modules / script
    shutil.copyfile(SCRIPTS / script, place)
    own = node_modules / "node_modules" / ".bin" / "node"
    node = str(own) if own.exists() else "node"
    result = subprocess.run(
        [node, str(place)], capture_output=True, text=True, timeout=90, env=dict(os.environ)
    )
    assert result.returncode == 0, result.stderr
    seen: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return seen


def test_the_code_interpreter(node_modules: Path, service: Service) -> None:
    seen = run("code_interpreter.mjs", node_modules)
    assert (seen["state"], seen["javascript"], seen["afterError"]) == ("21", "42", "21")
    assert seen["png"] == "iVBORw0K"
    assert (seen["chart"]["type"], seen["chart"]["title"]) == ("line", "Line")
    assert seen["chart"]["elements"][0]["points"] == [[1, 3], [2, 4]]
    assert seen["error"]["name"] == "KeyError"
    assert "missing" in seen["error"]["traceback"]
    assert seen["stdout"] == "0\n1\n2\n"
    assert seen["cwd"] == "/tmp"
    assert (seen["command"], seen["file"]) == ("hello from a shell\n", "written by node")
    assert (seen["killed"], seen["running"]) == (True, False)


def test_the_base_package(node_modules: Path, service: Service) -> None:
    seen = run("base.mjs", node_modules)
    assert seen["listed"] == [seen["id"]]
    assert (seen["environment"], seen["streamed"]) == ("hello\n", "one\ntwo\n")
    assert seen["failure"] == {"name": "CommandExitError", "exitCode": 7, "stdout": "before\n"}
    assert (seen["bytes"], seen["names"], seen["exists"]) == ([0, 1, 254, 255], ["data.bin"], False)
    assert (seen["runningBefore"], seen["killed"], seen["running"]) == (True, True, False)
