from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.gateway.world import World, running_gateway, short_directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[World]:
    """One gateway for all tests of a module, which leave it usable."""
    with short_directory() as directory:
        async with running_gateway(directory) as world:
            yield world


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    """A gateway for one test alone."""
    with short_directory() as directory:
        async with running_gateway(directory) as world:
            yield world
