"""CrewAI's three tools for E2B."""

from __future__ import annotations

from tests.integrations.frameworks import SLOW, run_python
from tests.service import Service

pytestmark = SLOW


def test_crewai(service: Service) -> None:
    packages = ("crewai-tools", "e2b-code-interpreter")
    seen = run_python(service.environment, "crewai_sandbox.py", *packages)
    python = seen["python"]
    assert python["kept"] == ["{'Bergen': 7}", ["read\n"], 2]
    assert (python["failed"], python["plotted"][0]) == (["KeyError", True], "iVBORw0K")
    assert (python["javascript"], python["envs"]) == ("42", "'Monday'")
    assert (python["slow"], python["after"]) == (True, "{'Bergen': 7}")
    assert seen["alone"] == "2"
    shell = seen["shell"]
    assert shell["done"]["stdout"] == "/tmp\nMonday\n"
    assert (shell["done"]["exit_code"], shell["done"]["stderr"]) == (0, "err\n")
    assert (shell["failed"], shell["slow"]) == (True, True)
    files = seen["files"]
    assert (files["appended"], files["read"], files["binary"]) == (8, "one\ntwo\n", True)
    assert sorted(files["listed"]) == ["b.txt", "c.bin"]
    assert files["info"] == [8, "user", "-rw-r--r--", True]
    assert (files["missing"], files["exists"], seen["running"]) == (True, False, True)
