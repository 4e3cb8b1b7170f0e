"""A sandbox's log cannot fill the host's disk."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from code_interpreter.host import box_logs

pytestmark = pytest.mark.security


async def test_a_log_that_is_written_to_without_end_stays_small(tmp_path: Path) -> None:
    log = tmp_path / "i1" / "box.log"
    log.parent.mkdir()
    keeping = asyncio.create_task(box_logs.keep_small(tmp_path, period=0.01))
    with log.open("ab", buffering=0) as supervisor:
        for number in range(300):
            supervisor.write(b"%06d message dropped\n" % number * 4000)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)
        assert log.stat().st_size <= box_logs.MOST_BYTES
        supervisor.write(b"the end\n")
    lines = log.read_bytes().splitlines()
    assert b"beginning of this log was removed" in lines[0]
    assert lines[-2:] == [b"000299 message dropped", b"the end"]
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "i1" / "box.log"
    log.parent.mkdir()
    log.write_bytes(b"a line\n")
    box_logs.shorten_all(tmp_path)
    assert log.read_bytes() == b"a line\n"
