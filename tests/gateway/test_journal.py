"""Events and outputs on the disk, also on one that is full."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from code_interpreter.gateway import frames
from code_interpreter.gateway import journal as journals
from code_interpreter.gateway.events import Events
from code_interpreter.gateway.journal import Journal
from code_interpreter.gateway.message import Codec
from code_interpreter.gateway.spill import MEMORY_BYTES, Spill
from code_interpreter.protocol.executions import (
    EndOfExecution,
    ExecutionEvent,
    ExecutionStatus,
    GatewayMessage,
    KernelState,
    Receipt,
    Stdout,
    encode,
    gateway_message,
)

SIZE = 1 << 20


def text(seq: int, size: int = SIZE) -> Stdout:
    return Stdout(execution_id="e", seq=seq, text=f"{seq} ü" + "x" * size, timestamp="t")


def end(seq: int) -> EndOfExecution:
    return EndOfExecution(
        execution_id="e",
        seq=seq,
        status=ExecutionStatus.OK,
        kernel_state=KernelState.PRESERVED,
        receipt=Receipt(wall_seconds=0),
    )


def filled(path: Path, count: int) -> tuple[Journal, list[ExecutionEvent]]:
    journal = Journal(path)
    events: list[ExecutionEvent] = [text(seq) for seq in range(1, count + 1)]
    for event in events:
        journal.append(event)
    return journal, events


async def test_all_events_can_be_read_wherever_they_are(tmp_path: Path) -> None:
    journal, events = filled(tmp_path / "events", 40)
    assert journal.written > 20 * SIZE
    assert journal.events() == events
    assert [gateway_message.validate_json(journal.read(n).frame) for n in (1, 40)] == [
        events[0],
        events[-1],
    ]
    assert journal.read(1).frame.isascii()


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner)))
def test_frames_are_ascii_and_say_the_same(value: Any) -> None:
    for fields in ({"ü": value}, {"ü": value, "much": "x" * 10_000}):
        written = frames.ascii_json(fields)
        assert written.isascii()
        assert json.loads(written) == fields


@given(
    st.dictionaries(
        st.sampled_from(["image/png", "text/html", "text/plain", "application/json", "x/y"]),
        st.text() | st.lists(st.text() | st.integers(0, 9)) | st.dictionaries(st.text(), st.text()),
    )
)
@example({"image/png": "iVBORw0K"})
@example({"text/html": {"a": "it's"}})
def test_long_texts_go_through_as_they_came(data: dict[str, Any]) -> None:
    codec = Codec("key")
    header = {"msg_type": "display_data"}
    message = codec.read(codec.frames(header, {}, {}, {"data": data}))
    (event,) = Events("e").of_message(message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "LONG", 1)
        frame = frames.frame_of(event, verbatim=message.unescaped)
    assert frame.isascii()
    assert gateway_message.validate_json(frame) == gateway_message.validate_json(encode(event))


async def test_following_reads_old_events_and_waits_for_new_ones(tmp_path: Path) -> None:
    journal, events = filled(tmp_path / "events", 30)

    async def read() -> list[GatewayMessage]:
        frames = [frame async for batch in journal.follow(after=2) for frame in batch]
        return [gateway_message.validate_json(frame) for frame in frames]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    journal.append(text(31))
    await asyncio.sleep(0)
    journal.append(end(32))
    assert await reader == [*events[2:], text(31), end(32)]


async def test_after_the_end_memory_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SETTLE_SECONDS", 0.0)
    journal, events = filled(tmp_path / "events", 3)
    assert journal.written == 0
    journal.append(end(4))
    await asyncio.sleep(0.01)
    assert journal.written > 3 * SIZE
    assert journal.events() == [*events, end(4)]
    journal.remove()
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_cannot_be_written_fills_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "missing" / "events")
    count = 0
    while not journal.full:
        count += 1
        journal.append(text(count))
        assert count < 40
    assert journal.events() == [text(seq) for seq in range(1, count + 1)]


def test_a_short_output_never_reaches_the_disk(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "out")
    spill.write("x" * (MEMORY_BYTES - 1))
    spill.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_long_output_is_kept_whole(tmp_path: Path) -> None:
    spill = Spill(tmp_path / "out")
    for _ in range(10):
        spill.write("ü" * MEMORY_BYTES)
    spill.write("last")
    spill.keep()
    assert (tmp_path / "out").read_text() == "ü" * (10 * MEMORY_BYTES) + "last"
    assert spill.written == (tmp_path / "out").stat().st_size


@pytest.mark.parametrize("path", ["missing/out", "link"])
def test_a_file_that_cannot_be_written_is_given_up(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    spill = Spill(tmp_path / path)
    spill.write("x" * MEMORY_BYTES)
    spill.write("more")
    spill.keep()
    assert spill.failed
    assert not (tmp_path / "elsewhere").exists()
