"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

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
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``last`` come last; whoever starts the host may have to prepare a template."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    for item in items:
        if "service" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(PREPARATION_DEADLINE + 60))
            return
