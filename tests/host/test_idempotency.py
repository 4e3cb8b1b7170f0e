from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from code_interpreter.host.errors import BadRequest, IdempotencyMismatch
from code_interpreter.host.idempotency import OutcomeUnknown, Repetitions, check_key
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.wishes import Wish


def wish(digest: str = "d1") -> Wish:
    return Wish("base", 300, idempotency_key="k", digest=digest)


class Maker:
    """Makes records, slowly, and counts."""

    def __init__(self) -> None:
        self.made = 0
        self.fail = False
        self.known: dict[str, Record] = {}

    async def create(self, wish: Wish) -> Record:
        await asyncio.sleep(0.02)
        if self.fail:
            raise OSError("no")
        self.made += 1
        record = Record(f"i{self.made}", wish.template, Phase.RUNNING)
        self.known[record.sandbox_id] = record = replace(
            record, idempotency_key=wish.idempotency_key, request_digest=wish.digest
        )
        return record


async def test_ten_at_once_make_one() -> None:
    maker, repetitions = Maker(), Repetitions()
    records = await asyncio.gather(
        *(repetitions.once(wish(), maker.create, maker.known.get) for _ in range(10))
    )
    assert maker.made == 1
    assert {record.sandbox_id for record in records} == {"i1"}


async def test_another_request_with_the_key_is_refused_even_while_the_first_runs() -> None:
    maker, repetitions = Maker(), Repetitions()
    first = asyncio.create_task(repetitions.once(wish(), maker.create, maker.known.get))
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(IdempotencyMismatch):
            await repetitions.once(wish("d2"), maker.create, maker.known.get)
        await first


async def test_after_a_failure_the_key_may_be_used_again() -> None:
    maker, repetitions = Maker(), Repetitions()
    maker.fail = True
    with pytest.raises(OSError, match="no"):
        await repetitions.once(wish(), maker.create, maker.known.get)
    maker.fail = False
    assert (await repetitions.once(wish(), maker.create, maker.known.get)).sandbox_id == "i1"


async def test_a_sandbox_that_has_ended_is_not_made_again() -> None:
    maker, repetitions = Maker(), Repetitions()
    await repetitions.once(wish(), maker.create, maker.known.get)
    maker.known.clear()
    with pytest.raises(OutcomeUnknown, match="i1"):
        await repetitions.once(wish(), maker.create, maker.known.get)


@pytest.mark.parametrize("key", ["", "A", "a b", "a" * 256, "ä"])
def test_keys_have_a_form(key: str) -> None:
    with pytest.raises(BadRequest, match="Idempotency-Key"):
        check_key(key)
