"""Who weighs less, with real processes in groups of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from code_interpreter.host.cgroup_search import find
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
    name, usual = ("cpu.weight", 300) if groups.version == 2 else ("cpu.shares", 3072)
    weight = groups.controllers["cpu"] / name
    groups.bound(memory_bytes=1 << 40, tasks=10_000, cores=CORES)
    hogs = Hogs(groups, cores=CORES)
    assert int(weight.read_text()) == usual
    _wait_until(lambda: int(weight.read_text()) < usual / 2, hogs.look)
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


async def test_it_watches_by_itself_until_it_is_closed(
    groups: Cgroups, busy: subprocess.Popen[bytes]
) -> None:
    hogs = Hogs(groups, cores=CORES)
    hogs.start()
    async with asyncio.timeout(DEADLINE):
        while not groups.weighs_less("hog"):
            await asyncio.sleep(INTERVAL)
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
