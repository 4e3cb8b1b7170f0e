from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from code_interpreter.host.records import TRANSITIONS, Phase, Record
from code_interpreter.host.runtimes.base import Box, Limits
from code_interpreter.host.store import Store, StoreUnusable


def full_record() -> Record:
    box = Box("i1", "process", 12, 34, Path("/run/i1"), "base")
    return Record(
        "i1",
        "base",
        Phase.RUNNING,
        Limits(memory_bytes=1 << 30, cpu_count=1.5, pids=10),
        box,
        timeout=300,
        access_token="secret-token",
        metadata={"ключ": "значение"},
        env_vars={"A": "line\nbreak"},
        auto_pause=True,
        network={"allow_public_traffic": False},
    ).lasting(300)


@pytest.mark.parametrize(("before", "after"), list(product(Phase, Phase)))
def test_only_the_ways_of_the_table_are_open(before: Phase, after: Phase) -> None:
    record = Record("i1", "base", before)
    if after in TRANSITIONS[before]:
        assert record.moved(after).phase is after
    else:
        with pytest.raises(ValueError, match=f"{before} cannot become {after}"):
            record.moved(after)


def test_secrets_are_not_in_the_representation() -> None:
    assert "secret-token" not in repr(full_record())
    assert "break" not in repr(full_record())


async def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with Store(path) as store:
        await store.save(full_record())
        await store.save(full_record().moved(Phase.PAUSING))
    async with Store(path) as store:
        (loaded,) = await store.load()
        assert loaded.phase is Phase.PAUSING
        assert loaded.moved(Phase.RUNNING).env_vars == {"A": "line\nbreak"}
        assert (loaded.box, loaded.limits) == (full_record().box, full_record().limits)
        await store.delete("i1")
        assert await store.load() == []


async def test_only_this_user_reads_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with Store(path) as store:
        await store.save(full_record())
        for file in tmp_path.iterdir():
            assert file.stat().st_mode & 0o077 == 0


async def test_an_unreadable_record_does_not_stop_the_host(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "store.sqlite"
    async with Store(path) as store:
        await store.save(full_record())
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO sandboxes VALUES ('i2', '{}')")
    connection.close()
    async with Store(path) as store:
        assert [record.sandbox_id for record in await store.load()] == ["i1"]


async def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnusable, match=r"store\.sqlite"):
        await Store(path).__aenter__()


async def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnusable, match="newer version"):
        await Store(path).__aenter__()
