"""Mastra with its sandbox that is E2B's."""

from __future__ import annotations

import pytest

from tests.integrations.frameworks import NODE, SLOW, run_node
from tests.service import Service

pytestmark = [*SLOW, pytest.mark.npm]


def test_mastra(service: Service) -> None:
    packages = ("@mastra/e2b@latest", "@mastra/core@latest", NODE)
    seen = run_node(service.environment, "mastra.mjs", *packages)
    assert (seen["status"], seen["python"]) == ("running", [True, 0, "42\n"])
    assert seen["failed"][:2] == [False, 3]
    assert set(seen["failed"][2].split()) == {"before"}, "Mastra tells it twice"
    assert set(seen["failed"][3].split()) == {"why"}
    assert (seen["options"], seen["slow"][0]) == ("/tmp\nMonday\n", False)
    assert (seen["running"], seen["typed"], seen["killed"]) == (True, "typed\n", [True, False])
    assert (seen["files"], seen["url"][:13]) == ("seven\n2\n", "https://3000-")
    answer, failed, computed = seen["agent"]
    assert (answer, "Exit code: 3" in failed) == ("Ten days.", True)
    assert computed == {"success": True, "result": 10, "logs": ["asked"]}
    assert seen["resumed"] == "seven\n", "by its name, after a pause"
    assert (seen["same"], seen["anew"]) == (False, 2), "a new one in place of the one that ended"
    assert seen["noTemplate"].startswith("501"), "a template of its own is not built"
