from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.host.running import RunningHost, data_directory, running_host


@pytest.fixture(scope="session")
def host() -> Iterator[RunningHost]:
    """One host for all tests that leave nothing behind in it."""
    with running_host() as running:
        yield running


@pytest.fixture
def http(host: RunningHost) -> Iterator[httpx.Client]:
    """A client of the control plane, with the key."""
    with host.http() as client:
        yield client


@pytest.fixture
def data() -> Iterator[Path]:
    with data_directory() as path:
        yield path
