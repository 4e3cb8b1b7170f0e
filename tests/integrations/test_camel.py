"""CAMEL's E2BInterpreter, which makes sandboxes as E2B's oldest clients do."""

from __future__ import annotations

from tests.integrations.frameworks import SLOW, run_python

pytestmark = SLOW


def test_camel(behind_tls: dict[str, str]) -> None:
    seen = run_python(behind_tls, "camel_interpreter.py", "camel-ai", "e2b-code-interpreter<2")
    assert (seen["value"], seen["printed"]) == ("7", "7\n")
    assert seen["failed"].startswith("KeyError: 'Rome'")
    assert (seen["bash"].strip(), seen["javascript"]) == ("told", "42")
    assert "data:image/png;base64,iVBOR" in seen["plotted"]
    assert seen["command"] == "out\n"
