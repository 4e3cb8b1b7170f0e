from __future__ import annotations

import asyncio
from datetime import timedelta

from code_interpreter.host.expiry import Expiry
from code_interpreter.host.records import Phase, Record, now
from code_interpreter.host.tasks import Tasks


def ending_in(name: str, seconds: float) -> Record:
    return Record(name, "base", Phase.RUNNING, end_at=now() + timedelta(seconds=seconds))


async def test_each_one_expires_once_and_in_time() -> None:
    records = {name: ending_in(name, delay) for name, delay in (("a", 0.2), ("b", 0.05))}
    expired: list[str] = []
    tasks = Tasks()

    async def expire(name: str) -> None:
        expired.append(name)
        await asyncio.sleep(0.1)
        del records[name]

    tasks.spawn(Expiry(records.values, tasks, expire).run(), "expiry")
    await asyncio.sleep(0.6)
    await tasks.close()
    assert expired == ["b", "a"]


async def test_a_change_wakes_the_timer() -> None:
    records = [ending_in("a", 3600)]
    expired = asyncio.Event()
    tasks = Tasks()

    async def expire(name: str) -> None:
        records.clear()
        expired.set()

    expiry = Expiry(lambda: records, tasks, expire)
    tasks.spawn(expiry.run(), "expiry")
    await asyncio.sleep(0.05)
    records[0] = ending_in("a", 0)
    expiry.changed()
    await asyncio.wait_for(expired.wait(), 1)
    await tasks.close()


async def test_one_that_fails_is_tried_again_and_hinders_nobody() -> None:
    records = {name: ending_in(name, 0) for name in ("bad", "good")}
    tries: list[str] = []
    tasks = Tasks()

    async def expire(name: str) -> None:
        tries.append(name)
        await asyncio.sleep(0.02)
        if name == "bad" and tries.count("bad") < 3:
            raise OSError("not yet")
        del records[name]

    tasks.spawn(Expiry(records.values, tasks, expire).run(), "expiry")
    await asyncio.sleep(0.3)
    await tasks.close()
    assert records == {}
    assert tries.count("bad") == 3
