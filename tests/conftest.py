"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import PREPARATION_DEADLINE, Service, running_service


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """One real host for the whole run, with this machine's default runtime.

    Leave no sandbox behind in it: the last test looks, and so does each process of the run.
    """
    with running_service() as running:
        yield running
        running.check_nothing_is_left()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In an order that keeps two workers busy, who take file after file.

    The first test of all starts the shared host, which may have to prepare its template for
    minutes. Meanwhile come the files that need no template. What may take longest comes before
    what is short, so that nobody is alone with it at the end. Tests marked ``last`` come last.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    usual = float(config.getini("timeout"))
    ordered = sorted(files.values(), key=lambda tests: -max(_time_out(t, usual) for t in tests))
    waiting = [tests for tests in ordered if any(map(_needs_host, tests))]
    others = [tests for tests in ordered if tests not in waiting]
    items[:] = [item for tests in (*waiting[:1], *others, *waiting[1:]) for item in tests]
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    for tests in waiting:  # whichever is its worker's first one to ask for the host
        first = next(filter(_needs_host, tests))
        longer = pytest.mark.timeout(PREPARATION_DEADLINE + _time_out(first, usual))
        first.add_marker(longer, append=False)


def _needs_host(item: pytest.Item) -> bool:
    return "service" in getattr(item, "fixturenames", ())


def _time_out(item: pytest.Item, usual: float) -> float:
    """Seconds."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else usual
