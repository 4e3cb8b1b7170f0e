"""The Vercel AI SDK, with a tool that is E2B's code interpreter."""

from __future__ import annotations

import pytest

from tests import npm
from tests.integrations.frameworks import NODE, SLOW, run_node
from tests.service import Service

pytestmark = [*SLOW, pytest.mark.npm]


def test_ai(service: Service) -> None:
    seen = run_node(
        service.environment, "ai_sdk.mjs", "ai@latest", "zod", npm.CODE_INTERPRETER, NODE
    )
    assert seen["outputs"] == [
        {"stdout": "read\n"},
        {"text": "Bergen", "stdout": ""},
        {"stdout": "", "error": "'Rome'"},
        {"stdout": "", "png": "iVBORw0K"},
    ]
    assert (seen["answer"], seen["told"]) == ("In Bergen.", True)
    assert seen["streamed"] == ["tool-result 10", "finish"]
    assert seen["stopped"] == ["TimeoutError", "3"], "the kernel was free at once"
    assert seen["killed"]
