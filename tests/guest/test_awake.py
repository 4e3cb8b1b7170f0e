"""Time-outs of a process that is stopped and goes on, as a paused sandbox's processes do."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

from code_interpreter.guest.awake import LATE, STEP, AwakeClock

PAUSE = 4.0
SLEEPER = """
import asyncio, time
from code_interpreter.guest.awake import AwakeClock

async def main():
    clock, done = AwakeClock(), asyncio.Event()
    begun = clock.time()
    clock.call_at(begun + 1.5, done.set)
    print("set", flush=True)
    await done.wait()
    print(clock.time() - begun, flush=True)

asyncio.run(main())
"""


def test_paused_time_does_not_count() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True
    ) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "set\n"
        began = time.monotonic()
        sleeper.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE)
        sleeper.send_signal(signal.SIGCONT)
        told = float(sleeper.stdout.readline())
        took = time.monotonic() - began
    assert told >= 1.5
    assert took >= PAUSE + 1.5 - STEP - 0.3


async def test_timers_are_called_in_order_and_can_be_cancelled() -> None:
    clock = AwakeClock()
    called: list[str] = []
    now = clock.time()
    clock.call_at(now + 0.1, lambda: called.append("second"))
    clock.call_at(now + 0.05, lambda: called.append("first"))
    clock.call_at(now + 0.07, lambda: called.append("never")).cancel()
    await asyncio.sleep(0.3)
    assert called == ["first", "second"]


async def test_a_step_that_is_a_little_late_counts_in_full() -> None:
    clock = AwakeClock()
    done = asyncio.Event()
    before = clock.time()
    clock.call_at(before + STEP + 0.4, done.set)
    time.sleep(STEP + 0.5)  # the loop was busy
    assert clock.time() >= before + STEP + 0.5
    await asyncio.wait_for(done.wait(), 10)


async def test_time_never_goes_back() -> None:
    clock = AwakeClock()
    clock.call_at(clock.time() + 100, lambda: None)
    before = clock.time()
    time.sleep(STEP + LATE + 0.1)
    after = clock.time()
    assert before < after <= before + STEP + 0.1
