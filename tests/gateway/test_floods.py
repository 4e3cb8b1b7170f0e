"""Output without end: all of it is accounted for, the gateway stays small and answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from code_interpreter.protocol.executions import (
    Cancel,
    EndOfExecution,
    ExecutionStatus,
    KernelState,
    NumberOfExecutions,
    OnDisconnect,
    ResultEvent,
)
from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROWTH = 32 << 20
"""Bytes that the gateway may grow by, whatever a cell writes."""
PICTURES = """
import base64, os
for n in range({count}):
    display({{'image/png': base64.b64encode(os.urandom({size})).decode()}}, raw=True)
"""
FLOODS = {
    "one line": "import sys\nfor _ in range(100): sys.stdout.write('x' * 2**20)",
    "one print": "print('x' * 100_000_000)",
    "lines": "for n in range(100_000): print(n, 'x' * 90)",
    "both streams": "import sys\nfor n in range(3_000): print(n); print(n, file=sys.stderr)",
    "beyond ASCII": "import sys\nfor _ in range(30): sys.stdout.write('ü' * 2**20)",
    "a progress bar": (
        "import sys\nfor n in range(8_000): print(f'\\r{n}', end='', file=sys.stderr, flush=True)"
    ),
    "pictures": PICTURES.format(count=2000, size=4000),
    "a program's output": "!yes | head -c 20000000",
}


@contextlib.asynccontextmanager
async def watched(world: World) -> AsyncIterator[None]:
    """Fails if the gateway grows too much meanwhile."""
    await world.run("1")
    before = peak = world.memory()

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, world.memory())
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()
    assert peak - before < GROWTH, f"{(peak - before) >> 20} MiB more"


@pytest.mark.parametrize("name", FLOODS)
async def test_the_gateway_stays_small(shared: World, name: str) -> None:
    async with watched(shared):
        outcome = await shared.run(FLOODS[name], deadline=50)
    assert outcome.error is None
    receipt = outcome.end.receipt
    for stream, text in ((receipt.stdout, outcome.stdout), (receipt.stderr, outcome.stderr)):
        if stream.omitted_bytes:
            assert stream.path is not None
            assert Path(stream.path).stat().st_size == stream.total_bytes
        else:
            assert len(text.encode()) == stream.total_bytes
    assert receipt.omitted_results == 0


@pytest.mark.slow
async def test_the_gateway_stays_small_under_a_gigabyte_and_ten_thousand_pictures(
    shared: World,
) -> None:
    async with watched(shared):
        code = "import sys\nfor _ in range(1024): sys.stdout.write('x' * 2**20)"
        receipt = (await shared.run(code, deadline=55)).end.receipt.stdout
    assert receipt.total_bytes == 1 << 30
    assert receipt.path is not None
    assert Path(receipt.path).stat().st_size == 1 << 30
    Path(receipt.path).unlink()
    async with watched(shared):
        outcome = await shared.run(PICTURES.format(count=10_000, size=4000), deadline=55)
    assert len(outcome.results) == 10_000


RESIDENT = "int(open('/proc/self/statm').read().split()[1]) * 4096"


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(100_000): print(f'{n} ' * 20, end='')",
        "import sys\nfor _ in range(80): sys.stdout.write('x' * 2**20)",
        "import sys\nfor _ in range(30): sys.stderr.write('ü' * 2**20)",
        PICTURES.format(count=20, size=4_000_000),
    ],
)
async def test_the_kernel_stays_small(shared: World, code: str) -> None:
    """What a cell has printed and shown does not stay in memory."""
    await shared.run("print('x' * 2**20)")
    before = (await shared.run(RESIDENT)).text
    outcome = await shared.run(code, deadline=60)
    assert outcome.error is None
    after = (await shared.run(f"import gc; gc.collect(); {RESIDENT}")).text
    assert before is not None
    assert after is not None
    assert int(after) - int(before) < GROWTH, f"{(int(after) - int(before)) >> 20} MiB more"


async def test_late_output_does_not_pile_up(shared: World) -> None:
    """A thread that prints on when no cell runs: the next cell gets the end of it."""
    code = """
import sys, threading
def write():
    started.wait()
    for n in range(50): sys.stdout.write(str(n) * 2**19)
    sys.stdout.write("end")
started = threading.Event()
writer = threading.Thread(target=write)
writer.start()
"""
    async with watched(shared):
        await shared.run(code)
        await shared.run("threading.Timer(0.05, started.set).start()")
        await asyncio.sleep(1)
        outcome = await shared.run("writer.join()", deadline=50)
    assert outcome.stdout.endswith("end")


async def test_memory_goes_back_after_a_flood(shared: World) -> None:
    await shared.run("1")
    before = shared.memory()
    outcome = await shared.run(PICTURES.format(count=20, size=4_000_000), deadline=50)
    assert len(outcome.results) == 20
    async with asyncio.timeout(10):
        while shared.memory() - before > 16 << 20:
            await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("code", "bytes_a_line"),
    [("for n in range(20_000): print(f'{n:09d}')", 10), ("for n in range(9): print('é' * 49)", 99)],
)
async def test_all_of_what_fits(shared: World, code: str, bytes_a_line: int) -> None:
    outcome = await shared.run(code)
    receipt = outcome.end.receipt.stdout
    assert receipt.total_bytes == len(outcome.stdout.splitlines()) * bytes_a_line
    assert receipt.omitted_bytes == 0


async def test_all_of_five_thousand_displays(shared: World) -> None:
    outcome = await shared.run("for n in range(5000): display(n)")
    assert [result.bundle.text for result in outcome.results] == [str(n) for n in range(5000)]


async def test_a_slow_reader_costs_no_memory(shared: World) -> None:
    """Nobody reads while 80 MB of results and 20 MB of output pile up; all is there later."""
    code = "import time\n" + PICTURES.format(count=200, size=300_000)
    code += "    print('x' * 100_000)"
    async with shared.link() as link, watched(shared):
        execution_id = await link.begin(code, on_disconnect=OnDisconnect.CONTINUE)
        await asyncio.sleep(4)
        outcome = await link.outcome(execution_id, deadline=40)
    assert len(outcome.of(ResultEvent)) == 200
    assert outcome.end.receipt.stdout.total_bytes == 200 * 100_001


@pytest.mark.parametrize(
    "code",
    [
        "while True: print('x' * 1000)",
        "import sys\nwhile True: sys.stdout.write('x' * 2**20)",
        "while True: display(1)",
        "!yes",
        "import os\nwhile True: os.write(2, b'x' * 2**16)",
        "from IPython.display import clear_output\nwhile True: print(1); clear_output()",
    ],
)
async def test_cancel_answers_within_a_second(shared: World, code: str) -> None:
    loop = asyncio.get_running_loop()
    async with shared.link() as link, shared.link() as other:
        execution_id = await link.begin(code)
        await link.until(execution_id, NumberOfExecutions)
        reading = asyncio.create_task(link.until(execution_id, EndOfExecution))
        await asyncio.sleep(0.5)
        before = loop.time()
        await other.send(Cancel(execution_id=execution_id))
        end = await reading
        took = loop.time() - before
    assert end.status is ExecutionStatus.INTERRUPTED
    assert end.kernel_state is KernelState.PRESERVED
    assert took < 8, took  # a second, with room for a busy machine


async def test_a_flood_in_one_context_leaves_others_quick(shared: World) -> None:
    async with shared.client() as client, shared.link() as link, shared.link() as other:
        quiet = (await client.post("/contexts", json={})).json()["id"]
        await other.run("1", context_id=quiet)
        loud = await link.begin("for _ in range(300): print('x' * 100_000)")
        loop = asyncio.get_running_loop()
        delays = []
        for _ in range(10):
            before = loop.time()
            await other.run("1 + 1", context_id=quiet)
            delays.append(loop.time() - before)
        await link.outcome(loud)
        await client.delete(f"/contexts/{quiet}")
    assert sorted(delays)[5] < 0.25, delays
