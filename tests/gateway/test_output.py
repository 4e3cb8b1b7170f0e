"""stdout and stderr: whole, in order, prompt, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from code_interpreter.protocol.executions import OnDisconnect, ResultEvent, Stderr, Stdout
from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_print_is_one_message_and_comes_at_once(shared: World) -> None:
    await shared.run("import time")
    loop = asyncio.get_running_loop()
    async with shared.link() as link:
        delays = []
        for _ in range(5):
            code = "print('a', 1, 'b', sep=', '); t = time.time(); time.sleep(0.3)"
            execution_id = await link.begin(code)
            event = await link.until(execution_id, Stdout)
            arrived = loop.time()
            assert event.text == "a, 1, b\n"
            await link.outcome(execution_id)
            delays.append(loop.time() - arrived)
    assert max(delays) > 0.28, delays


async def test_both_streams_keep_their_order(shared: World) -> None:
    code = "import sys\nfor n in range(50):\n    print(n); print(-n, file=sys.stderr)"
    outcome = await shared.run(code)
    texts = [event.text for event in outcome.events if isinstance(event, (Stdout, Stderr))]
    expected = "".join(f"{n}\n{-n}\n" for n in range(50))
    assert "".join(texts) == expected


async def test_all_of_twenty_thousand_lines(shared: World) -> None:
    outcome = await shared.run("for n in range(20_000): print(n)")
    assert outcome.stdout == "".join(f"{n}\n" for n in range(20_000))
    assert outcome.end.receipt.stdout.omitted_bytes == 0


async def test_all_of_five_thousand_displays(shared: World) -> None:
    outcome = await shared.run("for n in range(5000): display(n)")
    assert [result.bundle.text for result in outcome.results] == [str(n) for n in range(5000)]


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("print('a\\ud800b')", "a?b\n"),
        ("import sys; sys.stdout.buffer.write('ü'.encode()[:1]); print('.')", ".\n"),
        ("import os; os.write(1, b'\\xff\\xc3'); os.write(1, b'\\xbc'); None", "\ufffdü"),
        ("print('\\r1%\\r2%', end='')", "\r1%\r2%"),
        ("print('\\x1b[31mred\\x1b[0m')", "\x1b[31mred\x1b[0m\n"),
        ("import subprocess; subprocess.run(['echo', 'sub']); print('own')", "sub\nown\n"),
        ("print('own')\n!echo sub", "own\nsub\n"),
        ("%%capture got\nprint('x')\n!echo y", ""),
        ("print(got.stdout, end='')", "x\ny\n"),
        ("%%bash\necho from bash", "from bash\n"),
        ("import sys; sys.stdout.close(); sys.stdout = None", ""),
        ("print('again')", "again\n"),
        ("import logging; logging.warning('w'); print('p')", "p\n"),
    ],
)
async def test_odd_outputs(shared: World, code: str, stdout: str) -> None:
    outcome = await shared.run(code)
    assert outcome.error is None, outcome.error
    assert outcome.stdout == stdout


async def test_progress_bars_come_as_they_are(shared: World) -> None:
    code = """
import sys, time
for n in range(3):
    print(f'\\r{n}', end='', file=sys.stderr, flush=True); time.sleep(0.01)
"""
    outcome = await shared.run(code)
    assert [event.text for event in outcome.of(Stderr)] == ["\r0", "\r1", "\r2"]


async def test_output_of_a_thread_goes_to_the_cell_that_runs_or_the_next(shared: World) -> None:
    code = """
import threading, time
def late():
    time.sleep(0.3); print('late')
threading.Thread(target=late).start()
"""
    assert (await shared.run(code)).stdout == ""
    await asyncio.sleep(0.6)
    assert (await shared.run("print('next')")).stdout == "late\nnext\n"
    await shared.run(code)
    assert (await shared.run("time.sleep(0.5)")).stdout == "late\n"


async def test_long_output_keeps_head_and_tail_and_all_of_it_in_a_file(shared: World) -> None:
    code = "for n in range(400_000): print(f'{n:099d}')"
    outcome = await shared.run(code, deadline=60)
    receipt = outcome.end.receipt.stdout
    assert receipt.total_bytes == 40_000_000
    assert 20_000_000 < receipt.omitted_bytes < 24_000_000
    assert receipt.path is not None
    whole = Path(receipt.path).read_text()
    assert len(whole) == 40_000_000
    assert whole.startswith(f"{0:099d}\n")
    text = outcome.stdout
    mark = f"\n[… {receipt.omitted_bytes} bytes left out here; all of it is in {receipt.path} …]\n"
    head, _, tail = text.partition(mark)
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) + len(tail) + receipt.omitted_bytes == 40_000_000


async def test_one_line_of_a_gigabyte_leaves_the_gateway_small(shared: World) -> None:
    await shared.run("1")
    before = shared.memory()
    execution_id = ""
    async with shared.link() as link:
        code = "import sys\nfor _ in range(1024): sys.stdout.write('x' * 2**20)"
        execution_id = await link.begin(code)
        outcome = await link.outcome(execution_id, deadline=50)
    receipt = outcome.end.receipt.stdout
    assert receipt.total_bytes == 1 << 30
    assert receipt.path is not None
    assert Path(receipt.path).stat().st_size == 1 << 30
    Path(receipt.path).unlink()
    assert shared.memory() - before < 60 << 20


async def test_a_slow_reader_costs_no_memory(shared: World) -> None:
    """Nobody reads while 12 MB of results and output pile up; all of it is there later."""
    await shared.run("import os, base64")
    before = shared.memory()
    code = """
for n in range(200):
    print('x' * 100_000)
    display({'image/png': base64.b64encode(os.urandom(300_000)).decode()}, raw=True)
"""
    async with shared.link() as link:
        execution_id = await link.begin(code, on_disconnect=OnDisconnect.CONTINUE)
        await asyncio.sleep(4)
        assert shared.memory() - before < 40 << 20
        outcome = await link.outcome(execution_id, deadline=40)
    assert len(outcome.of(ResultEvent)) == 200
    assert shared.memory() - before < 60 << 20


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
