"""What attacks from inside a sandbox begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2b import Sandbox

from tests.service import Service


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    """One for the tests of a file that share it."""
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        yield sandbox
    finally:
        sandbox.kill()
