"""How many sandboxes the pool reckons with."""

from __future__ import annotations

from code_interpreter.host.demand import BURST_SECONDS, MEMORY_SECONDS, Demand


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_calls_far_apart_need_one_at_a_time() -> None:
    clock = Clock()
    demand = Demand(50, clock)
    assert demand.peak() == 0
    for _ in range(10):
        demand.note()
        clock.now += BURST_SECONDS * 1.5
    assert demand.peak() == 1


def test_the_largest_burst_counts_until_it_is_forgotten() -> None:
    clock = Clock()
    demand = Demand(50, clock)
    for _ in range(7):
        demand.note()
    clock.now += 5
    for _ in range(3):
        demand.note()
    assert demand.peak() == 7
    clock.now += MEMORY_SECONDS - 4
    assert demand.peak() == 3
    clock.now += MEMORY_SECONDS
    assert demand.peak() == 0


def test_no_more_is_remembered_than_is_of_use() -> None:
    demand = Demand(5, Clock())
    for _ in range(100):
        demand.note()
    assert demand.peak() == 5
