"""Every call in a sandbox, by E2B's clients: the newest here, older ones in the table."""

from __future__ import annotations

import pytest

from tests.compatibility.__main__ import NPM, TABLE
from tests.compatibility.clients import INSTALL_SECONDS, Seen, run_installed, run_npm
from tests.compatibility.table import render
from tests.service import Service

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 120)


def test_the_python_client(service: Service) -> None:
    seen = run_installed(service.environment)
    assert set(seen.calls.values()) == {"ok"}, seen.failures


@pytest.mark.npm
def test_the_npm_client(service: Service) -> None:
    seen = run_npm(NPM[-1], service.environment)
    assert set(seen.calls.values()) == {"ok"}, seen.failures


def test_the_table_tells_what_was_seen() -> None:
    columns = [Seen("python", "1.0", {"a": "ok", "b": "absent"}), Seen("npm", "2.0", {"a": "bad"})]
    table = render(columns)
    assert "| a | ✓ | ✗ |\n| b | · | · |\n" in table
    assert "- npm 2.0, a: `bad`" in table


def test_the_table_is_of_the_calls_that_there_are() -> None:
    from tests.compatibility.calls import CALLS

    written = TABLE.read_text()
    assert [name for name in CALLS if f"| {name} |" not in written] == []
