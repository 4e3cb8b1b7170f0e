"""E2B's npm packages on Node, unmodified."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from tests.service import Service

SCRIPTS = Path(__file__).parent
pytestmark = [pytest.mark.npm, pytest.mark.timeout(npm.INSTALL_SECONDS + 60)]


def run(script: str) -> dict[str, Any]:
    """What a script saw."""
    packages = npm.installed(npm.CODE_INTERPRETER, npm.BASE)
    printed = packages.run(SCRIPTS / script, os.environ)
    seen: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return seen


def test_the_code_interpreter(service: Service) -> None:
    seen = run("code_interpreter.mjs")
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


def test_the_base_package(service: Service) -> None:
    seen = run("base.mjs")
    assert seen["listed"] == [seen["id"]]
    assert (seen["environment"], seen["streamed"]) == ("hello\n", "one\ntwo\n")
    assert seen["failure"] == {"name": "CommandExitError", "exitCode": 7, "stdout": "before\n"}
    assert (seen["bytes"], seen["names"], seen["exists"]) == ([0, 1, 254, 255], ["data.bin"], False)
    assert (seen["runningBefore"], seen["killed"], seen["running"]) == (True, True, False)
