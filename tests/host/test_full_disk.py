"""A host whose disk is full makes nothing new, says so, and can still end what there is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import Sandbox

from code_interpreter.host.errors import NotStored
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.registry import Registry
from code_interpreter.host.store import Store
from tests.host.running import RunningHost, data_directory

LONG = {"note": "x" * 50_000}


async def test_what_happens_is_told_and_stored_later(tmp_path: Path) -> None:
    async with Store(tmp_path / "store.sqlite") as store:
        registry = Registry(store)
        entry = await registry.put(Record("i1", "base", Phase.RUNNING))
        await store._run(lambda: store._connection.execute("PRAGMA max_page_count = 1"))  # full
        with pytest.raises(NotStored, match="make room") as refused:
            await registry.put(Record("i2", "base", Phase.RUNNING, metadata=LONG))
        assert refused.value.status == 503
        assert registry.find("i2") is None
        await registry.put(Record("i1", "base", Phase.PAUSING, metadata=LONG))
        await registry.move(entry, Phase.PAUSED)
        assert registry.get("i1").phase is Phase.PAUSED
        assert [record.phase for record in await store.load()] == [Phase.RUNNING]
        await store._run(lambda: store._connection.execute("PRAGMA max_page_count = 1000"))
        await registry.put(Record("i2", "base", Phase.RUNNING))
        assert {record.phase for record in await store.load()} == {Phase.PAUSED, Phase.RUNNING}


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A data directory on a disk of its own."""
    with data_directory() as data:
        data.parent.joinpath("disk").mkdir()
        place = data.parent / "disk"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", place], check=True)
        try:
            yield place / "data"
        finally:
            subprocess.run(["umount", "-l", place], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small disk")
def test_sandboxes_end_on_a_full_disk(small_disk: Path) -> None:
    host = RunningHost(small_disk, env={"CODE_INTERPRETER_DISK_RESERVE_MB": "1"}).wait_until_ready()
    sandboxes = [Sandbox.create(timeout=300, **host.options) for _ in range(2)]
    fill(small_disk / "filler")
    with host.http() as http:
        health = http.get("/health", headers={"X-API-KEY": ""})
        assert health.status_code == 200
        assert "no room on the disk for another sandbox" in health.json()["message"]
        assert "MiB of disk" in health.json()["message"]
        refused = http.post("/v2/sandboxes", json={"templateID": "base"})
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert "MiB of disk" in refused.json()["message"]
        for left in (1, 0):
            assert sandboxes[left].kill()
            assert len(http.get("/v2/sandboxes").json()) == left
        (small_disk / "filler").unlink()
        assert http.get("/health").status_code == 204
        assert http.post("/v2/sandboxes", json={"templateID": "base"}).status_code == 201
    assert host.stop() == 0
    assert "Traceback" not in host.stderr
    deadline = time.monotonic() + 5
    while list((small_disk / "sandboxes").iterdir()):
        assert time.monotonic() < deadline
