"""Cells of every kind: ours beside a bare kernel and Jupyter Kernel Gateway, in turn."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from code_interpreter import Sandbox
from tests.benchmarks.contestants import Contestant, bare, kernel_gateway, ours
from tests.benchmarks.samples import Row, Samples, time_of

WARM_UP = 3
MIB = 1 << 20


@dataclass(frozen=True)
class Cell:
    name: str
    code: str
    rounds: int
    target: str = ""
    prepare: str = "1"


CELLS = [
    Cell("1+1", "1+1", 300, "≤ 1.0 of bare, p99 ≤ 3 p50"),
    Cell(
        "10 MB in 100,000 lines",
        "for n in range(100_000): print('x' * 99)",
        5,
        "≤ 1.0 of bare",
    ),
    Cell(
        "a PNG of 5 MB",
        "display({'image/png': data}, raw=True)",
        10,
        "≤ 50 ms, 1.25 of bare",
        "import base64, os; data = base64.b64encode(os.urandom(5_000_000)).decode()",
    ),
    Cell(
        "a chart",
        "plt.plot([1, 2, 3]); plt.show()",
        20,
        "≤ 50 ms, 1.0 of bare",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1]); plt.show()",
    ),
    Cell(
        "DataFrame of 100,000 by 10",
        "frame",
        20,
        "≤ 15 ms, 1.74 of bare",
        "import numpy, pandas; frame = pandas.DataFrame(numpy.random.rand(100_000, 10))",
    ),
    Cell("an exception", "def f(): 1 / 0\nf()", 50, "≤ 12 ms, 0.8 of bare"),
    Cell("500 displays", "for n in range(500): display(n)", 5, "≤ 1.0 of bare"),
]
PRINT = "import time; print(time.time()); time.sleep(0.05)"
LOUD = "for _ in range(300): print('x' * 100_000)"


@contextlib.contextmanager
def _all(server: int) -> Iterator[list[Contestant]]:
    """The baseline is the first."""
    with bare() as plain, kernel_gateway() as other, ours(server) as mine:
        yield [plain, other, mine]


def measure(server: int) -> list[Row]:
    """``server``: pid of the host."""
    with _all(server) as contestants:
        rows = [row for cell in CELLS for row in _cells(contestants, cell)]
        rows += _prints(contestants)
        rows += _together(contestants)
        rows += _memory(contestants)
        rows += _neighbours(contestants)
    return rows + _languages()


def _rows(samples: list[Samples], target: str) -> list[Row]:
    first, *others = samples
    rows = [each.row(baseline=first) for each in others[:-1]]
    return [first.row(), *rows, samples[-1].row(baseline=first, target=target)]


def _in_turn(ways: list[tuple[Samples, Callable[[], float]]], rounds: int) -> None:
    """So that the machine's mood hits all."""
    for number in range(rounds + WARM_UP):
        for samples, measured in ways:
            seconds = measured()
            if number >= WARM_UP:
                samples.add(seconds)


def _cells(contestants: list[Contestant], cell: Cell) -> list[Row]:
    for each in contestants:
        each.run(cell.prepare)
    samples = [Samples(f"{cell.name}, {each.name}") for each in contestants]
    runs = [partial(time_of, partial(each.run, cell.code)) for each in contestants]
    _in_turn(list(zip(samples, runs, strict=True)), cell.rounds)
    return _rows(samples, cell.target)


def _prints(contestants: list[Contestant]) -> list[Row]:
    """From the ``print`` to the callback: both ends read the clock of one machine."""

    def delay(contestant: Contestant) -> float:
        heard: list[tuple[float, str]] = []
        contestant.run(PRINT, lambda text: heard.append((time.time(), text)))
        arrived, printed = heard[0]
        return arrived - float(printed)

    samples = [Samples(f"print → on_stdout, {each.name}") for each in contestants]
    runs = [partial(delay, each) for each in contestants]
    _in_turn(list(zip(samples, runs, strict=True)), 30)
    return _rows(samples, "≤ 5 ms")


def _together(contestants: list[Contestant]) -> list[Row]:
    """16 kernels; each runs ten cells, all at the same time."""
    all_samples = []
    for each in contestants:
        samples = Samples(f"16 contexts at once, 10 cells each, {each.name}")
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(16) as pool:
            kernels = [stack.enter_context(each.another()) for _ in range(16)]
            for _ in range(3):
                samples.add(time_of(partial(_at_once, pool, kernels)))
        all_samples.append(samples)
    return _rows(all_samples, "≤ 1.0 of bare")


def _at_once(pool: ThreadPoolExecutor, kernels: list[Contestant]) -> None:
    def ten(kernel: Contestant) -> None:
        for _ in range(10):
            kernel.run("1+1")

    for _ in pool.map(ten, kernels):
        pass


def _memory(contestants: list[Contestant]) -> list[Row]:
    """Proportional set size of ten more kernels, in MiB, where other rows have milliseconds."""
    all_samples = []
    for each in contestants:
        before = each.memory()
        with contextlib.ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(each.another())
            more = each.memory() - before
        samples = Samples(f"MiB of 10 more contexts, {each.name}")
        samples.add(more / MIB / 1000)
        all_samples.append(samples)
    return _rows(all_samples, "≤ 0.5 of bare")


def _neighbours(contestants: list[Contestant]) -> list[Row]:
    """``1+1`` in one context while another prints 30 MB, beside the same in silence."""
    rows = []
    for each in contestants:
        quiet = Samples(f"1+1 alone, {each.name}")
        loud = Samples(f"1+1 beside 30 MB, {each.name}")
        with each.another() as neighbour, each.another() as other, ThreadPoolExecutor(1) as pool:
            for _ in range(200):
                quiet.add(time_of(partial(other.run, "1+1")))
            for _ in range(3):
                printing = pool.submit(neighbour.run, LOUD)
                while not printing.done():
                    loud.add(time_of(partial(other.run, "1+1")))
        rows += [quiet.row(), loud.row(baseline=quiet, target="p99 ≤ 2 p99 of alone")]
    return rows


def _languages() -> list[Row]:
    """bash beside a process that runs it, JavaScript beside a bare Deno kernel."""
    shell, bash = Samples("bash -c echo, a subprocess"), Samples("bash cell, run_code")
    deno, script = Samples("1+1 in JavaScript, bare"), Samples("1+1 in JavaScript, run_code")
    command = ["bash", "--norc", "-c", "echo x"]
    with Sandbox.create(timeout=3600) as sandbox, bare("javascript") as plain:
        ways: list[tuple[Samples, Callable[[], object]]] = [
            (shell, lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)),
            (bash, lambda: sandbox.run_code("echo x", language="bash")),
            (deno, lambda: plain.run("1+1")),
            (script, lambda: sandbox.run_code("1+1", language="javascript")),
        ]
        _in_turn([(samples, partial(time_of, run)) for samples, run in ways], 100)
    return [
        shell.row(),
        bash.row(baseline=shell, target="≤ 5 ms, 2.2 of a subprocess"),
        deno.row(),
        script.row(baseline=deno, target="≤ 4 ms, 2.2 of bare"),
    ]
