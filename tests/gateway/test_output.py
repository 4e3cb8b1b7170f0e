"""stdout and stderr: whole, in order, prompt, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from code_interpreter.protocol.executions import Stderr, Stdout
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
