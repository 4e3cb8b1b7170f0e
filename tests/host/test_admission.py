"""A machine without room refuses another sandbox, in words, and takes it when there is room."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2b import RateLimitException, Sandbox, ServiceBusyException

from code_interpreter.host import admission, pool
from code_interpreter.host.admission import MIB, PLEDGE, Admission
from code_interpreter.host.assembly import choose_runtime
from code_interpreter.host.data_directory import DataDirectory
from code_interpreter.host.errors import NoRoom
from code_interpreter.host.lifecycle import Lifecycle
from code_interpreter.host.runtimes.base import Limits
from code_interpreter.host.settings import RuntimeName, Settings
from code_interpreter.host.store import Store
from tests.host.running import data_directory, running_host

GIB = 1024 * MIB


def machine(room: int, directory: Path, **settings: Any) -> Admission:
    chosen = Settings(data_dir=directory, disk_reserve_mb=0, **settings)
    return Admission(chosen, lambda: room)


def test_a_part_of_the_limit_has_to_be_there(tmp_path: Path) -> None:
    two = Limits(memory_bytes=2 * GIB)
    machine(GIB // 2, tmp_path, memory_reserve_mb=0).check(two)
    with pytest.raises(NoRoom, match=r"512 MiB of memory, and 511 MiB"):
        machine(GIB // 2 - 1, tmp_path, memory_reserve_mb=0).check(two)
    with pytest.raises(NoRoom, match="2048 MiB of memory"):
        machine(GIB, tmp_path, memory_reserve_mb=0, overcommit=1).check(two)


def test_what_is_being_made_counts_as_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = machine(2 * PLEDGE, tmp_path, memory_reserve_mb=0)
    small = Limits(memory_bytes=128 * MIB)
    with host.making():
        host.check(small)
        with host.making(), pytest.raises(NoRoom, match="0 MiB are left"):
            host.check(small)
    with pytest.raises(NoRoom):  # made, but it may not have touched its memory yet
        host.check(small)
    monkeypatch.setattr(admission, "PLEDGE_SECONDS", -1)
    host.check(small)


def test_many_creates_at_once_go_by_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "GLANCE_SECONDS", 60)
    rooms = [2 * PLEDGE, 0, 2 * PLEDGE]
    settings = Settings(data_dir=tmp_path, disk_reserve_mb=0, memory_reserve_mb=0)
    host = Admission(settings, lambda: rooms.pop(0))
    small = Limits(memory_bytes=128 * MIB)
    assert host.had_room(small)
    with host.making():
        assert host.had_room(small)
        with host.making():
            assert not host.had_room(small), "what is let in counts as taken"
    assert len(rooms) == 2
    monkeypatch.setattr(admission, "GLANCE_SECONDS", -1)
    monkeypatch.setattr(admission, "PLEDGE_SECONDS", -1)
    assert not host.had_room(small), "looked again"
    assert host.had_room(small)


def test_the_reserve_is_not_given_away(tmp_path: Path) -> None:
    available = psutil.virtual_memory().available // MIB
    with pytest.raises(NoRoom, match=f"reserve of {2 * available} MiB"):
        machine(1 << 60, tmp_path, memory_reserve_mb=2 * available).check(Limits())


def test_disk_is_looked_at_too(tmp_path: Path) -> None:
    host = machine(1 << 60, tmp_path, memory_reserve_mb=0)
    host.check(Limits(disk_bytes=64 * MIB))
    with pytest.raises(NoRoom, match="of disk"):
        host.check(Limits(disk_bytes=1 << 60))


def test_clients_are_told_that_there_is_no_room() -> None:
    env = {"CODE_INTERPRETER_MEMORY_RESERVE_MB": str(10**9)}
    with running_host(env=env) as host, host.http() as http:
        answer = http.post("/v2/sandboxes", json={"templateID": "base"})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "MiB of memory" in answer.json()["message"]
        with pytest.raises(ServiceBusyException, match="MiB of memory"):
            Sandbox.create(**host.options)
        assert http.get("/v2/sandboxes").json() == []


def test_clients_are_told_of_the_quota() -> None:
    env = {"CODE_INTERPRETER_MAX_SANDBOXES": "1"}
    with running_host(env=env) as host, host.http() as http:
        first = Sandbox.create(timeout=60, **host.options)
        answer = http.post("/v2/sandboxes", json={"templateID": "base"})
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        with pytest.raises(RateLimitException, match="maximum of 1 sandboxes"):
            Sandbox.create(**host.options)
        first.kill()
        Sandbox.create(timeout=60, **host.options).kill()


async def test_the_pool_shrinks_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LOOK_AGAIN", 0.05)
    with data_directory() as directory:
        settings = Settings(
            data_dir=directory, runtime=RuntimeName.PROCESS, pool_size=2, memory_reserve_mb=0
        )
        DataDirectory(directory).prepare()
        runtime, templates = await choose_runtime(settings, print)
        room = 1 << 60
        monkeypatch.setattr(runtime, "memory_room", lambda: room)
        await runtime.start()
        async with Store(directory / "store.sqlite") as store:
            lifecycle = Lifecycle(settings, runtime, store, templates)
            await lifecycle.start()
            try:
                await _until(directory, 2)
                room = 0
                await _until(directory, 0)
                room = 1 << 60
                await _until(directory, 2)
            finally:
                await lifecycle.stop(end_sandboxes=True)
                await runtime.stop()


async def _until(directory: Path, count: int) -> None:
    """So many boxes are there."""
    async with asyncio.timeout(40):
        while len(list((directory / "sandboxes").glob("i*"))) != count:
            await asyncio.sleep(0.02)
