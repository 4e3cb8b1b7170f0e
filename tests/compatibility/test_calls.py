"""Every call in a sandbox, by E2B's clients: the newest here, older ones in the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from packaging.version import Version

from tests.compatibility.__main__ import CLI as CLI_RELEASES
from tests.compatibility.__main__ import NPM, PYTHON, TABLE
from tests.compatibility.calls import CALLS
from tests.compatibility.cli import CALLS as COMMANDS
from tests.compatibility.cli import Cli, started
from tests.compatibility.clients import INSTALL_SECONDS, run_installed, run_npm
from tests.compatibility.seen import Seen
from tests.compatibility.table import render
from tests.service import Service

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 120)


def test_the_python_client(service: Service) -> None:
    seen = run_installed(service.environment)
    assert set(seen.calls.values()) == {"ok"}, seen.failures


@pytest.fixture(scope="module")
def cli(service: Service) -> Iterator[Cli]:
    with started(CLI_RELEASES[-1], service.environment) as running:
        yield running


@pytest.mark.npm
@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line(cli: Cli, name: str) -> None:
    COMMANDS[name](cli)


@pytest.mark.npm
def test_what_this_host_does_not_offer_is_not_called_a_missing_sandbox(cli: Cli) -> None:
    said = cli.run("sandbox", "snapshot", "create", cli.sandbox_id, code=1)
    assert "wasn't found" not in said
    assert "501: this host does not offer POST /sandboxes/" in said


@pytest.mark.npm
def test_the_npm_client(service: Service) -> None:
    seen = run_npm(NPM[-1], service.environment)
    assert set(seen.calls.values()) == {"ok"}, seen.failures


def test_the_table_tells_what_was_seen() -> None:
    columns = [Seen("python", "1.0", {"a": "ok", "b": "absent"}), Seen("npm", "2.0", {"a": "bad"})]
    table = render(columns)
    assert "| a | ✓ | ✗ |\n| b | · | · |\n" in table
    assert "- npm 2.0, a: `bad`" in table


def test_the_table_is_of_the_calls_and_releases_that_there_are() -> None:
    """Otherwise: ``python -m tests.compatibility``."""
    written = TABLE.read_text()
    rows = set(re.findall(r"^\| ([^|]+) \| [✓·✗]", written, re.MULTILINE))
    assert rows == {*CALLS, *COMMANDS}
    releases = [("python", PYTHON), ("npm", NPM), ("cli", CLI_RELEASES)]
    wanted = {f"{client} {version}" for client, versions in releases for version in versions}
    assert set(re.findall(r"\b(?:python|npm|cli) \d[\d.]+\d\b(?= \|)", written)) == wanted


def test_the_newest_releases_are_in_the_table() -> None:
    assert PYTHON[-1] == version("e2b")
    for name, wanted in (("python", PYTHON), ("npm", NPM), ("cli", CLI_RELEASES)):
        assert list(wanted) == sorted(wanted, key=Version), name
        assert {Version(each).major for each in wanted} == {2}


def test_nothing_that_worked_is_broken() -> None:
    """Whoever writes a cross into the table gives its reason, and there is none now."""
    assert "✗ |" not in TABLE.read_text()
