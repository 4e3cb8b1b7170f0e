"""Who weighs less, with real processes in groups of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from code_interpreter.host.cgroup_search import find, find_again
from code_interpreter.host.cgroups import Cgroups
from code_interpreter.host.hogs import INTERVAL, Hogs
from code_interpreter.host.runtimes.base import Limits

GROUP = f"code-interpreter-test-{os.getpid()}"
DEADLINE = 20.0
CORES = 3


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    found = find(GROUP)
    if not found.weighs:
        pytest.skip("this user may not weigh processor time on this machine")
    for name in ("hog", "calm"):
        found.create(name, Limits())
    try:
        yield found
    finally:
        for name in ("hog", "calm"):
            found.remove(name)
        found.remove_parents()


@pytest.fixture
def busy(groups: Cgroups) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "input()\nwhile True: pass"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            groups.join("hog", process.pid)
            process.stdin.write(b"\n")
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def _wait_until(condition: Callable[[], bool], look: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(INTERVAL)
        look()


async def _watching(groups: Cgroups) -> Hogs:
    """By itself, and it has seen the one that keeps the processor busy."""
    hogs = Hogs(groups, cores=CORES)
    hogs.start()
    async with asyncio.timeout(DEADLINE):
        while not groups.weighs_less("hog"):
            await asyncio.sleep(INTERVAL)
    return hogs


def _weight_of_all(groups: Cgroups) -> tuple[Path, int]:
    """And what is in it without a hog."""
    name, usual = ("cpu.weight", 100) if groups.version == 2 else ("cpu.shares", 1024)
    return groups.controllers["cpu"] / name, CORES * usual


def test_who_keeps_the_processor_busy_weighs_less_until_it_is_calm(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    hogs = Hogs(groups, cores=CORES)
    _wait_until(lambda: groups.weighs_less("hog"), hogs.look)
    assert not groups.weighs_less("calm")
    busy.kill()
    busy.wait()
    _wait_until(lambda: not groups.weighs_less("hog"), hogs.look)


def test_all_of_them_count_for_less_while_one_keeps_the_processor_busy(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    weight, usual = _weight_of_all(groups)
    groups.bound(memory_bytes=1 << 40, tasks=10_000, cores=CORES)
    hogs = Hogs(groups, cores=CORES)
    assert int(weight.read_text()) == usual
    _wait_until(lambda: int(weight.read_text()) < usual, hogs.look)
    assert groups.weighs_less("hog")
    busy.kill()
    busy.wait()
    _wait_until(lambda: int(weight.read_text()) == usual, hogs.look)


def test_a_host_that_is_started_again_finds_who_weighs_less(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    groups.weigh("calm", less=True)
    hogs = Hogs(groups, cores=CORES)
    _wait_until(lambda: not groups.weighs_less("calm"), hogs.look)


async def test_who_is_to_end_counts_for_more_from_then_on(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    weight, usual = _weight_of_all(groups)
    hogs = await _watching(groups)
    hogs.hasten()
    hastened = int(weight.read_text())
    assert hastened > usual
    await asyncio.sleep(5 * INTERVAL)
    await hogs.close()
    assert int(weight.read_text()) == hastened


async def test_who_lives_on_without_a_host_counts_as_usual(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    weight, usual = _weight_of_all(groups)
    hogs = await _watching(groups)
    await hogs.close()
    assert int(weight.read_text()) == usual


def test_what_an_earlier_version_has_left_is_put_right(groups: Cgroups) -> None:
    """It gave hogs a tenth, where this one lets them come last."""
    name, usual = ("cpu.weight", 100) if groups.version == 2 else ("cpu.shares", 1024)
    weight = groups.controllers["cpu"] / "hog" / name
    weight.write_text(str(usual // 10))
    assert groups.weighs_less("hog")
    groups.weigh("hog", less=False)
    assert not groups.weighs_less("hog")
    assert int(weight.read_text()) == usual


def test_a_successor_watches_groups_that_are_elsewhere(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    successor = find(f"{GROUP}-successor")
    try:
        find_again(successor, "hog", busy.pid)
        hogs = Hogs(successor, cores=CORES)
        _wait_until(lambda: successor.weighs_less("hog"), hogs.look)
        assert groups.weighs_less("hog")
        weight, usual = _weight_of_all(groups)
        assert int(weight.read_text()) == usual // 2
    finally:
        successor.remove_parents()


async def test_it_watches_by_itself_until_it_is_closed(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    hogs = await _watching(groups)
    await hogs.close()
    groups.weigh("hog", less=False)
    await asyncio.sleep(5 * INTERVAL)
    assert not groups.weighs_less("hog")


def test_a_group_that_goes_away_is_forgotten(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    hogs = Hogs(groups, cores=CORES)
    _wait_until(lambda: groups.weighs_less("hog"), hogs.look)
    busy.kill()
    busy.wait()
    groups.remove("hog")
    hogs.look()
    assert groups.names() == ["calm"]
    groups.weigh("hog", less=True)
