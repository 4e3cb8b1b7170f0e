"""Displays, values and errors without measure: cut, counted, said, and felt by nobody else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from code_interpreter import Sandbox
from code_interpreter.gateway.events import MAX_NOTES, MAX_RESULT_BYTES, MAX_RESULTS_BYTES
from tests.envd import supervisors
from tests.security.watching import cell, watching
from tests.service import Service

pytestmark = [pytest.mark.security, pytest.mark.alone]
MIB = 1 << 20
GROWTH = 32 * MIB
"""Bytes that the gateway may grow by for what it does not pass on."""
NOTE = f"one may have {MAX_RESULT_BYTES >> 20} MiB"
NEIGHBOUR_SECONDS = 10.0
IMAGES = """
import base64, os
for n in range(10_000):
    display({'image/png': base64.b64encode(os.urandom(4000)).decode()}, raw=True)
"""


@pytest.fixture(scope="module")
def neighbour(service: Service) -> Iterator[Sandbox]:
    with Sandbox.create(timeout=300, **service.options) as sandbox:
        sandbox.run_code("0")
        yield sandbox


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    limits: Any = {"memory_mb": 2000}
    with Sandbox.create(timeout=300, **limits, **service.options) as sandbox:
        sandbox.run_code("import pandas, numpy")
        yield sandbox


@pytest.mark.skipif(os.getuid() != 0, reason="only root sees the gateway from outside")
@pytest.mark.parametrize(
    "code",
    [
        "display({'image/png': 'x' * 500_000_000}, raw=True)",
        "display({'text/html': ['x' * 100_000_000] * 5}, raw=True)",
        "class Figure:\n    def _repr_html_(self): return 'x' * 500_000_000\nFigure()",
    ],
    ids=["500 MB figure", "in lines", "value"],
)
def test_a_result_that_is_too_large_is_told_of(box: Sandbox, neighbour: Sandbox, code: str) -> None:
    gateway = supervisors.processes(box.sandbox_id)[1].pid
    before = supervisors.reset_peak(gateway)
    with watching({"neighbour": cell(neighbour)}) as seen:
        handle = box.run_code(code, background=True, timeout=50)
        ended = handle.wait(timeout=55)
    assert [NOTE in str(result.text) for result in ended.results] == [True]
    assert ended.receipt is not None
    assert ended.receipt.omitted_results == 1
    assert supervisors.peak(gateway) - before < GROWTH
    assert max(seen.taken["neighbour"]) < NEIGHBOUR_SECONDS, "no time-out"
    assert box.run_code("6 * 7").text == "42"


def test_results_beyond_what_a_cell_may_have_are_told_of_and_counted(box: Sandbox) -> None:
    fitting, more = [45, 45, 45, 45, 45, 30], MAX_NOTES + 50
    assert sum(fitting) * MIB < MAX_RESULTS_BYTES < (sum(fitting) + 1.5) * MIB
    code = (
        f"for size in {fitting}: display({{'text/html': 'x' * (size << 20)}}, raw=True)\n"
        f"for _ in range({more}): display({{'text/html': 'y' * {3 * MIB // 2}}}, raw=True)"
    )
    ended = box.run_code(code, background=True, timeout=55).wait(timeout=58)
    assert ended.error is None
    texts = [str(result.text) for result in ended.results if result.html is None]
    assert len(ended.results) - len(texts) == len(fitting)
    assert all(NOTE in text for text in texts[:-1])
    assert texts[-1] == "[… 50 further results left out …]"
    assert len(texts) == MAX_NOTES + 1
    assert ended.receipt is not None
    assert ended.receipt.omitted_results == more


def test_a_table_of_a_million_rows_is_an_excerpt(box: Sandbox, neighbour: Sandbox) -> None:
    began = time.monotonic()
    with watching({"neighbour": cell(neighbour)}) as seen:
        ended = box.run_code("pandas.DataFrame(numpy.zeros((1_000_000, 10)))", timeout=50)
    assert time.monotonic() - began < NEIGHBOUR_SECONDS
    assert "[1000000 rows x 10 columns]" in str(ended.text)
    assert sum(len(str(ended.results[0][form])) for form in ended.results[0].formats()) < MIB
    assert max(seen.taken["neighbour"]) < NEIGHBOUR_SECONDS


@pytest.mark.parametrize("code", ["raise ValueError('x' * {n})", "raise ValueError('x ' * {n})"])
def test_an_error_that_is_too_long_is_cut(box: Sandbox, code: str) -> None:
    began = time.monotonic()
    ended = box.run_code(code.format(n=50_000_000), timeout=50)
    assert ended.error is not None
    assert ended.error.name == "ValueError"
    assert "characters left out here" in ended.error.value
    assert len(ended.error.value) < 2 * MIB
    assert len(ended.error.traceback) < 10 * MIB
    assert time.monotonic() - began < 20
    assert box.run_code("6 * 7").text == "42"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_images_come_and_no_neighbour_waits(box: Sandbox, neighbour: Sandbox) -> None:
    with watching({"neighbour": cell(neighbour)}) as seen:
        ended = box.run_code(IMAGES, timeout=150)
    assert ended.error is None
    assert len(ended.results) == 10_000
    assert max(seen.taken["neighbour"]) < NEIGHBOUR_SECONDS
