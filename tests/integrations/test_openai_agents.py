"""OpenAI's Agents SDK, whose E2B sandboxes are part of it."""

from __future__ import annotations

from tests.integrations.frameworks import SLOW, run_python
from tests.service import Service

pytestmark = SLOW


def test_openai_agents(service: Service) -> None:
    seen = run_python(service.environment, "openai_agents.py", "openai-agents[e2b]")
    for kind in ("e2b", "e2b_code_interpreter"):
        agent = seen[kind]
        assert agent["answer"] == "In Bergen."
        computed, failed, terminal = agent["told"]
        assert "exited with code 0" in computed
        assert computed.endswith("Bergen,7\n")
        assert "exited with code 3" in failed
        assert failed.endswith("why\n")
        assert "Process running with session ID" in terminal
    session = seen["session"]
    assert session["done"] == [0, "Bergen\n/workspace\n3\n"]
    assert (session["failed"], session["slow"]) == ([3, "why\n"], "ExecTimeoutError")
    assert (session["root"], session["read"]) == ("root\n", "00ff")
    assert session["missing"] == "WorkspaceReadNotFoundError"
    assert session["listed"] == ["out", "rain.csv"]
    assert session["url"].startswith("http://3000-")
    assert (session["terminal"], session["running"]) == ([None, True], True)
    assert (session["resumed"], session["same"]) == ("2\n", True), "after a pause"
    assert (session["restored"], session["other"]) == ("2\n", True), "in a new sandbox"
