"""The host runs on uvloop where it is installed: the edge has to behave the same on it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import uvloop

from tests.host import test_edge
from tests.host.edge_world import world_in

_SCENARIOS: list[Callable[..., Awaitable[None]]] = [
    scenario
    for name, scenario in inspect.getmembers(test_edge, inspect.iscoroutinefunction)
    if name.startswith("test_")
    and set(inspect.signature(scenario).parameters) <= {"world", "client"}
]


@pytest.mark.parametrize("scenario", _SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_on_uvloop(scenario: Callable[..., Awaitable[None]], tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_play(scenario, tmp_path))


async def _play(scenario: Callable[..., Awaitable[None]], directory: Path) -> None:
    async with world_in(directory) as world:
        url = f"http://127.0.0.1:{world.port}"
        async with httpx.AsyncClient(base_url=url, timeout=10) as client:
            known = {"world": world, "client": client}
            wanted = inspect.signature(scenario).parameters
            await scenario(**{name: known[name] for name in wanted})
