"""LangChain's Deep Agents with the backends of E2B and of its self-hosted fork."""

from __future__ import annotations

from tests.integrations.frameworks import SLOW, run_python
from tests.service import Service

pytestmark = SLOW
UPLOADED = [None, "is_directory", "invalid_path"]
DOWNLOADED = ["00ff", "file_not_found", "is_directory"]


def test_langchain_e2b(service: Service) -> None:
    seen = run_python(service.environment, "deep_agents.py", "langchain-e2b")
    alone = seen["alone"]
    assert alone["id"]
    assert (alone["done"], alone["failed"]) == ([0, "out\n\nerr\n"], 3)
    assert alone["slow"] == [124, "Command timed out after 1 seconds"]
    assert alone["large"] == 3_000_000
    assert alone["uploaded"] == UPLOADED
    assert alone["downloaded"] == [*DOWNLOADED, "file_not_found"], "of root's folder"
    assert (alone["edited"], alone["again"], alone["read"]) == ([None, 1], True, "first\nthird")
    assert (alone["unread"], alone["listed"]) == (True, ["/tmp/a/b.bin"])
    assert (alone["found"], alone["matched"]) == (["notes.txt"], ["third"])
    assert [name for name, _ in seen["agent"]] == [
        "write_file",
        "execute",
        "execute",
        "grep",
        "read_file",
    ]
    told = [content for _, content in seen["agent"]]
    assert told[1].startswith("10\n")
    assert "ZeroDivisionError" in told[2]
    assert "exit code 1" in told[2]
    assert told[3] == "/tmp/rain.csv"
    assert "Oslo,3" in told[4]
    assert seen["again"] == "first\nthird\n", "after a pause"
    assert seen["gone"][0] != 0
    assert seen["async"] == {
        "counted": [0, "10\n"],
        "slow": 124,
        "found": ["/tmp/rain.csv", 3],
        "missing": "file_not_found",
    }


def test_langchain_e2b_selfhost(service: Service) -> None:
    seen = run_python(service.environment, "deep_agents_selfhost.py", "langchain-e2b-selfhost")
    assert seen["id"]
    assert seen["done"] == [0, "out\n\n<stderr>err\n</stderr>"]
    assert (seen["failed"], seen["slow"]) == ([3, "<stderr>why"], 124)
    assert (seen["uploaded"], seen["downloaded"]) == (UPLOADED, DOWNLOADED)
    assert (seen["edited"], seen["read"]) == ([None, 1], "first\nthird")
    assert (seen["listed"], seen["matched"]) == (["/tmp/a/b.bin"], ["third"])
