"""Head, tail and counts of a bounded stream."""

from __future__ import annotations

from code_interpreter.gateway.output import BoundedStream


def test_bounded_stream_counts_exactly() -> None:
    stream = BoundedStream(head_bytes=10, tail_bytes=4)
    sent = [piece for text in ("äbcdef", *"ghijklmnö\n") for piece in stream.take(text)]
    sent += stream.end("/f")
    assert stream.total_bytes == 18
    assert stream.omitted_bytes == 4
    assert "".join(sent) == "äbcdefghi\n[… 4 bytes left out here; all of it is in /f …]\nnö\n"


def test_nothing_is_left_out_when_head_and_tail_meet() -> None:
    stream = BoundedStream(head_bytes=3, tail_bytes=4)
    assert "".join([*stream.take("abcdef"), *stream.end("/f")]) == "abcdef"
    assert stream.omitted_bytes == 0
