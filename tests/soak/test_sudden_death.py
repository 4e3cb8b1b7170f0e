"""SIGKILL for any of our processes at any moment: nothing vanishes, nothing is orphaned.

The long run takes half an hour: ``pytest -m slow tests/soak``. ``CODE_INTERPRETER_SEED``
repeats one.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from code_interpreter import Sandbox
from tests.soak.bustle import Bustle
from tests.soak.steady import Promise, Steady
from tests.soak.world import Vitals, World, new_world, until

SEED = int(os.environ.get("CODE_INTERPRETER_SEED", "20261121"))
LONGEST_DELAY = 0.4
"""Seconds after the bustle began: creates, pauses and ends are under way."""
BATCH = 5
"""Strikes between two looks at what is left."""
BYSTANDERS = 3
"""Processes of boxes that nobody watches, killed before each strike."""

pytestmark = [pytest.mark.alone, pytest.mark.security, pytest.mark.usefixtures("service")]


@pytest.mark.timeout(400)
def test_twenty_deaths() -> None:
    _suffer(20, SEED)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_thousand_deaths() -> None:
    _suffer(1000, SEED + 1)


def _suffer(deaths: int, seed: int) -> None:
    chance = random.Random(seed)
    with new_world() as world:
        trial = Trial(world, chance)
        while trial.deaths.total() < deaths:
            for _ in range(BATCH):
                trial.strike()
            trial.settle()
            print(f"{trial.deaths.total()} deaths of {deaths}: {dict(trial.deaths)}", flush=True)


class Trial:
    """Blows to one world, each followed by a look at what there must still be."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self._numbers = iter(range(1000, 10**9))
        self.deaths: Counter[str] = Counter()
        self._ways: dict[str, Callable[[Steady, Promise], None]] = {
            "host": self._kill_host,
            "fork server": self._kill_fork_server,
            "init": self._kill_init,
            "envd": self._kill_envd,
            "gateway": self._kill_gateway,
            "kernel": self._kill_kernels,
            "starter": self._kill_starter,
        }
        self._baseline: tuple[int, Vitals] | None = None
        """Of the host that was started so many times before."""
        self._steady = self._new_pair()

    def _new_pair(self) -> list[Steady]:
        return [self._new_steady() for _ in range(2)]

    def _new_steady(self) -> Steady:
        return Steady(self._world, next(self._numbers))

    def strike(self) -> None:
        """One process dies while the host is busy."""
        name = self._chance.choice(list(self._ways))
        victim, other = self._chance.sample(self._steady, 2)
        promises = victim.begin_cell(), other.begin_cell()
        with self._told_by_boxes(name, victim, other):
            with Bustle(self._world, self._chance):
                time.sleep(self._chance.uniform(0, LONGEST_DELAY))
                self._slay_bystanders()
                self._ways[name](victim, promises[0])
            self.deaths[name] += 1
            other.check_promise(promises[1])
            other.check_state()

    @contextlib.contextmanager
    def _told_by_boxes(self, name: str, *boxes: Steady) -> Iterator[None]:
        """A failure comes with what was killed, and with what init of both boxes has seen."""
        try:
            yield
        except Exception as error:
            error.add_note(f"after the death of: {name}")
            for box in boxes:
                error.add_note(f"{box.id}:\n{self._world.log(box.id)}")
            raise

    def _slay_bystanders(self) -> None:
        """Of boxes that are in the pool, being made, used, paused or ended."""
        spared = [each.id for each in self._steady]
        for _ in range(BYSTANDERS):
            time.sleep(self._chance.uniform(0, LONGEST_DELAY / BYSTANDERS))
            pids = self._world.bystanders(spared)
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._chance.choice(pids), signal.SIGKILL)
                    self.deaths["bystander"] += 1

    def settle(self) -> None:
        """End every sandbox: nothing may be left, and a host of some age is as when it was new."""
        for sandbox_id in _all_sandboxes(self._world):
            Sandbox.kill(sandbox_id, **self._world.host.options)
        self._world.until_clean()
        if self._baseline is not None and self._baseline[0] == self._world.starts:
            self._world.check(self._baseline[1])
        else:
            self._baseline = self._world.starts, self._world.vitals()
        self._steady = self._new_pair()

    # --- each in its way ------------------------------------------------------------------

    def _kill_host(self, victim: Steady, promise: Promise) -> None:
        self._world.kill()
        self._world.start()
        victim.check_promise(promise)
        victim.check_state()

    def _kill_fork_server(self, victim: Steady, promise: Promise) -> None:
        _slay(self._world.fork_server())
        victim.check_promise(promise)
        victim.check_state()
        Sandbox.create(**self._world.options).kill()

    def _kill_init(self, victim: Steady, promise: Promise) -> None:
        _slay(self._world.init(victim.id))
        victim.check_gone()
        self._steady[self._steady.index(victim)] = self._new_steady()

    def _kill_envd(self, victim: Steady, promise: Promise) -> None:
        _slay(self._world.supervisor(victim.id, "envd"))
        victim.check_promise(promise)
        until(victim.sandbox.is_running, 20)
        victim.check_state()

    def _kill_gateway(self, victim: Steady, promise: Promise) -> None:
        _slay(self._world.supervisor(victim.id, "gateway"))
        victim.check_ended(promise)
        victim.check_state()

    def _kill_kernels(self, victim: Steady, promise: Promise) -> None:
        for kernel in self._world.kernels(victim.id):
            _slay(kernel)
        victim.check_ended(promise)
        victim.check_fresh_kernels()

    def _kill_starter(self, victim: Steady, promise: Promise) -> None:
        _slay(self._world.starter(victim.id))
        victim.check_promise(promise)
        victim.check_state()


def _slay(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)


def _all_sandboxes(world: World) -> list[str]:
    found = []
    pages = Sandbox.list(**world.host.options)
    while pages.has_next:
        found += [item.sandbox_id for item in pages.next_items()]
    return found
