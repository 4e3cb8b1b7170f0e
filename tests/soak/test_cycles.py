"""Sandboxes that come and go leave nothing behind.

The long run takes some minutes: ``pytest -m slow tests/soak``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from code_interpreter import Sandbox
from tests.soak.world import World, new_world

AT_ONCE = 3
BATCH = 50

pytestmark = [pytest.mark.alone, pytest.mark.security, pytest.mark.usefixtures("service")]


@pytest.mark.timeout(180)
def test_thirty_cycles() -> None:
    _cycle(30)


@pytest.mark.slow
@pytest.mark.timeout(2 * 3600)
def test_a_thousand_cycles() -> None:
    _cycle(1000)


def _cycle(cycles: int) -> None:
    with new_world() as world:
        _live(world, 0)
        world.until_clean()
        before = world.vitals()
        for start in range(0, cycles, BATCH):
            batch = range(start, min(cycles, start + BATCH))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda number: _live(world, number), batch))
            world.check(before)
            print(f"{batch[-1] + 1} sandboxes of {cycles}: {world.vitals()}", flush=True)


def _live(world: World, number: int) -> None:
    """A short life; each fifth one is fuller."""
    sandbox = Sandbox.create(**world.options)
    if number % 5 == 0:
        assert sandbox.run_code("import pandas; 1 + 1").text == "2"
        sandbox.files.write("data", "x" * 100_000)
        sandbox.commands.run("setsid nohup sleep 1000 >/dev/null 2>&1 &")
    if number % 5 in (0, 1):
        sandbox.pause()
    if number % 5 == 0:
        sandbox.connect(timeout=60)
    assert sandbox.kill()
