"""E2B's base client, unmodified, against the real host with its default runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from e2b import AsyncSandbox, Sandbox

from tests.service import Service


@pytest.fixture
def sandbox(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=300, **service.options)
    yield made
    made.kill()


@pytest.fixture
async def async_sandbox(service: Service) -> AsyncIterator[AsyncSandbox]:
    made = await AsyncSandbox.create(timeout=300, **service.options)
    yield made
    await made.kill()
