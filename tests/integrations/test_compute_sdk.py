"""ComputeSDK with its provider for E2B."""

from __future__ import annotations

import pytest

from tests.integrations.frameworks import SLOW, run_node
from tests.service import Service

pytestmark = [*SLOW, pytest.mark.npm]


def test_compute_sdk(service: Service) -> None:
    seen = run_node(service.environment, "compute_sdk.mjs", "computesdk", "@computesdk/e2b")
    assert (seen["python"], seen["failed"]) == ([0, "6\n"], [3, "before\n", "why\n"])
    assert seen["options"] == "/tmp Bergen Monday\n"
    assert (seen["slow"][0], "deadline_exceeded" in seen["slow"][1]) == (127, True)
    assert (seen["read"], seen["names"], seen["exists"]) == ("seven\n", [["a.txt", 6]], False)
    assert "does not exist" in seen["missing"]
    assert (seen["url"][:12], seen["served"]) == ("http://3000-", "sandbox\n")
    assert (seen["again"], seen["listed"], seen["nobody"]) == ([True, "Bergen\n"], True, None)
    assert "rain" in seen["resumed"].split(), "after a pause"
    assert "501" in seen["snapshot"], "not offered"
    assert seen["gone"] is None
