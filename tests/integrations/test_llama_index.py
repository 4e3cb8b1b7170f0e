"""LlamaIndex's server package, whose tool makes sandboxes as E2B's oldest clients do."""

from __future__ import annotations

from tests.integrations.frameworks import SLOW, run_python

pytestmark = SLOW


def test_llama_index(behind_tls: dict[str, str]) -> None:
    packages = ("llama-index-server", "e2b-code-interpreter<2")
    seen = run_python(behind_tls, "llama_index_tool.py", *packages)
    assert seen["name"] == "interpret"
    assert "".join(seen["read"]) == "city,days\nBergen,7\n\n"
    assert seen["kept"] == [["text", "1"]]
    assert {"png", "text"} <= set(seen["plotted"])
    assert seen["pictures"] == ["89504e47"]
    assert (seen["failed"], seen["ended"]) == ([True, True], True)
