"""agno's E2BTools."""

from __future__ import annotations

from tests.integrations.frameworks import SLOW, run_python
from tests.service import Service

pytestmark = SLOW


def test_agno(service: Service) -> None:
    seen = run_python(service.environment, "agno_tools.py", "agno", "e2b-code-interpreter")
    computed, failed, command = seen["told"]
    assert seen["answer"] == "In Bergen."
    assert "Result 1: Bergen" in computed
    assert "KeyError: 'Rome'" in failed
    assert command == '["STDOUT:\\nout\\n", "STDERR:\\nerr\\n"]'
    assert seen["picture"] == ["89504e47", 1]
    assert (seen["uploaded"], seen["read"]) == ("/tmp/rain.csv", "city,days\n")
    assert "does not exist" in seen["missing"]
    assert seen["written"] == "/tmp/a/b.txt"
    assert "b.txt (File, 5 bytes)" in seen["listed"]
    assert "exited with code 3" in seen["failed"]
    assert seen["streamed"] == '["STDOUT: out\\n", "STDERR: err\\n"]'
    assert "terminated successfully" in seen["killed"]
    assert seen["url"].startswith("http://3000-")
    assert seen["server"] == seen["url"]
    assert (seen["timeout"], seen["ended"]) == ("600", [True, False])
    assert (seen["options"], seen["again"]) == ('["STDOUT:\\nOslo\\n"]', "Oslo\n")

    # What its tools ask of the client in ways that E2B's own client has not; docs/integrations.md.
    assert "has no attribute 'get'" in seen["chart"]
    assert "not iterable" in seen["running"]
    assert "has no attribute 'get_change'" in seen["watched"]
    assert "bytes-like" in seen["downloaded"]
    assert seen["status"] == "Unknown"
