"""What an execution cost, also when it did not end by itself."""

from __future__ import annotations

import pytest

from code_interpreter.protocol.executions import Cancel, Cause, EndOfExecution, KernelState, Receipt
from tests.gateway.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORKS = """
import time
data = bytearray(100_000_000)
print('x' * 999)
until = time.process_time() + 0.5
while time.process_time() < until: pass
"""
ENDS = {
    "by itself": ("", None, KernelState.PRESERVED),
    "with an exception": ("1 / 0", None, KernelState.PRESERVED),
    "by its time-out": ("time.sleep(60)", 3.0, KernelState.PRESERVED),
    "by exit": ("import os; os._exit(1)", None, KernelState.LOST),
    "by a signal": ("import os; os.kill(os.getpid(), 9)", None, KernelState.LOST),
    "by a crash": ("import ctypes; ctypes.string_at(0)", None, KernelState.LOST),
    "killed": (
        "while True:\n    try: time.sleep(60)\n    except BaseException: pass",
        3.0,
        KernelState.RESET,
    ),
}


def check(receipt: Receipt) -> None:
    assert 0.45 < (receipt.cpu_seconds or 0) <= receipt.wall_seconds + 0.4
    assert 100_000_000 < (receipt.peak_memory_bytes or 0) < 1_000_000_000
    assert receipt.stdout.total_bytes == 1000
    assert receipt.stdout.omitted_bytes == 0
    assert receipt.stderr.total_bytes == 0


@pytest.mark.parametrize("name", ENDS)
async def test_what_a_cell_cost_is_told_however_it_ends(shared: World, name: str) -> None:
    code, timeout, state = ENDS[name]
    async with shared.link() as link:
        await link.run("until = 0\nfor n in range(10_000_000): until += n")  # not this cell's time
        outcome = await link.run(WORKS + code, timeout=timeout)
    assert outcome.end.kernel_state is state
    check(outcome.end.receipt)
    assert outcome.end.receipt.wall_seconds >= (timeout or 0.5)


async def test_programs_that_a_cell_starts_count(shared: World) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    receipt = (await shared.run(code)).end.receipt
    assert (receipt.cpu_seconds or 0) > 0.4


async def test_a_cell_that_never_began_cost_nothing(shared: World) -> None:
    async with shared.link() as link:
        first = await link.begin("import time; time.sleep(0.5)")
        second = await link.begin("print('never')")
        await link.send(Cancel(execution_id=second))
        end = await link.until(second, EndOfExecution)
        await link.outcome(first)
    assert end.kernel_state is KernelState.PRESERVED
    assert end.receipt == Receipt(wall_seconds=0)


@pytest.mark.parametrize("language", ["javascript", "bash"])
async def test_other_languages_count_too(shared: World, language: str) -> None:
    code = {
        "javascript": "const t = Date.now(); while (Date.now() - t < 700); console.log('x')",
        "bash": "timeout 0.7 sh -c 'while :; do :; done'; echo x",
    }[language]
    receipt = (await shared.run(code, language=language)).end.receipt
    assert receipt.wall_seconds > 0.6
    assert (receipt.cpu_seconds or 0) > 0.02  # a busy machine gives little
    assert receipt.stdout.total_bytes == 2


async def test_when_want_of_memory_is_told(world: World) -> None:
    """By the system's count of what it has ended for that; here a file that says it."""
    count = world.directory / "state" / "cgroup" / "unified" / "memory.events"
    count.parent.mkdir(parents=True)
    count.write_text("oom_kill 0\n")
    ended = "import os, pathlib\ndef ends(n): pathlib.Path(where).write_text(f'oom_kill {n}\\n')\n"
    ended += f"where = {str(count)!r}\n"
    program = await world.run(ended + "ends(1)")  # one of the cell's programs, not the kernel
    assert (program.end.cause, program.end.kernel_state) == (None, KernelState.PRESERVED)
    before = await world.run("import os; os.kill(os.getpid(), 9)")
    assert before.end.cause is Cause.SIGNAL
    twice = await world.run(ended + "ends(2); ends(3); os.kill(os.getpid(), 9)")
    assert twice.end.cause is Cause.OOM
    otherwise = await world.run(ended + "ends(4); os._exit(3)")
    assert (otherwise.end.cause, otherwise.end.exit_code) == (Cause.EXIT, 3)
