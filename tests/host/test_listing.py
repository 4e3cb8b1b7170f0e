from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_interpreter.host.errors import BadRequest
from code_interpreter.host.listing import parse_listing, parse_metadata
from code_interpreter.host.records import Phase, Record
from code_interpreter.host.runtimes.base import Box

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(number: int, **changes: object) -> Record:
    name = f"i{number:04d}"
    values: dict[str, object] = {
        "sandbox_id": name,
        "template": "base",
        "phase": Phase.RUNNING,
        "box": Box(name, "process", 1, 1, Path("/nowhere"), "base"),
        "started_at": START + timedelta(seconds=number),
        "metadata": {"n": str(number % 2)},
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def names(records: list[Record]) -> list[str]:
    return [item.sandbox_id for item in records]


def test_newest_first_and_by_page() -> None:
    records = [record(n) for n in range(5)]
    first, token = parse_listing(limit="2").select(records)
    second, token2 = parse_listing(limit="2", next_token=token).select(records)
    third, end = parse_listing(limit="2", next_token=token2).select(records)
    assert names(first + second + third) == ["i0004", "i0003", "i0002", "i0001", "i0000"]
    assert end is None


def test_a_page_token_outlives_the_sandbox_it_names() -> None:
    records = [record(n) for n in range(4)]
    _, token = parse_listing(limit="2").select(records)
    del records[2]
    rest, _ = parse_listing(next_token=token).select(records)
    assert names(rest) == ["i0001", "i0000"]


def test_ascending() -> None:
    page, token = parse_listing(order="asc", limit="2").select([record(n) for n in range(3)])
    rest, _ = parse_listing(order="asc", next_token=token).select([record(n) for n in range(3)])
    assert names(page + rest) == ["i0000", "i0001", "i0002"]


def test_conditions_hold_together() -> None:
    records = [record(n, phase=Phase.PAUSED if n > 2 else Phase.RUNNING) for n in range(6)]
    page, _ = parse_listing(state="paused", metadata="n=1").select(records)
    assert names(page) == ["i0005", "i0003"]


def test_started_after_includes_the_same_time() -> None:
    records = [record(n) for n in range(3)]
    same, _ = parse_listing(started_after="2026-01-01T00:00:02Z").select(records)
    later, _ = parse_listing(started_after="2026-01-01T00:00:03Z").select(records)
    assert (names(same), later) == (["i0002"], [])


def test_unknown_template_is_an_empty_list() -> None:
    assert parse_listing(template="nothing").select([record(1)]) == ([], None)
    assert names(parse_listing(template="BASE:default").select([record(1)])[0]) == ["i0001"]


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_metadata_survives_the_clients_three_encodings(metadata: dict[str, str]) -> None:
    inner = urlencode({quote(key): quote(value) for key, value in metadata.items()})
    query = urlencode({"metadata": inner})
    received = parse_qs(query).get("metadata", [""])[0]
    assert parse_metadata(received) == metadata


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", "9" * 5000),
        ("state", "dead"),
        ("order", "up"),
        ("started_after", "yesterday"),
        ("next_token", "!"),
        ("next_token", "YWJj"),
        ("metadata", "no-pair"),
    ],
)
def test_bad_values_are_refused_by_name(parameter: str, value: str) -> None:
    wire = {"started_after": "startedAfter", "next_token": "nextToken"}.get(parameter, parameter)
    with pytest.raises(BadRequest, match=wire):
        parse_listing(**{parameter: value})
