"""E2B's client before 2.0, which knows a domain and no URLs, behind a TLS proxy."""

from __future__ import annotations

from tests.integrations.frameworks import SLOW, run_python

pytestmark = SLOW


def test_the_oldest_client(behind_tls: dict[str, str]) -> None:
    seen = run_python(behind_tls, "oldest_client.py", "e2b-code-interpreter<2")
    assert (seen["kept"], seen["failed"], seen["again"]) == ("7", "KeyError", "7")
    assert {"text", "png", "chart"} <= set(seen["formats"])
    assert seen["picture"] == "iVBORw0K"
    assert "".join(seen["bash"]) == "told\n"
    assert (seen["command"], seen["read"]) == ("out\n", "seven\n")
    assert seen["host"].startswith("3000-")
    assert seen["host"].endswith(behind_tls["E2B_DOMAIN"])
    assert seen["running"]
