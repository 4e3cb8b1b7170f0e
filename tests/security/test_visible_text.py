"""What models and people read of a cell can be had without anything that is hidden in it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_interpreter import Sandbox, visible_text
from tests.service import Service

pytestmark = pytest.mark.security
HIDDEN = {
    "direction": ("a\u202ecba", "a\\u202ecba"),
    "isolate": ("\u2066x\u2069", "\\u2066x\\u2069"),
    "zero width": ("pass\u200bword\ufeff", "pass\\u200bword\\ufeff"),
    "tags": ("ok\U000e0041\U000e0042", "ok\\U000e0041\\U000e0042"),
    "variation": ("x\ufe0f\U000e0101", "x\\ufe0f\\U000e0101"),
    "filler": ("\u3164\u115f", "\\u3164\\u115f"),
    "colours": ("\x1b[31mred\x1b[0m", "red"),
    "title": ("\x1b]0;evil\x07shown", "shown"),
    "unfinished title": ("a\x1b]0;evil", "a"),
    "one byte": ("\x9b31mred", "red"),
    "cursor": ("rm -rf /\r# safe\b\b", "rm -rf /\\x0d# safe\\x08\\x08"),
    "line separator": ("a\u2028b\x85c", "a\\u2028b\\x85c"),
    "surrogate": ("\ud800", "\\ud800"),
}


@pytest.mark.parametrize(("raw", "seen"), HIDDEN.values(), ids=HIDDEN.keys())
def test_what_is_hidden_is_shown(raw: str, seen: str) -> None:
    assert visible_text(raw) == seen


@pytest.mark.parametrize("text", ["", "a\tb\nc", "Größe 日本語 שלום مرحبا 😀 é e\u0301", "\u00a0x"])
def test_writing_stays_as_it_is(text: str) -> None:
    assert visible_text(text) == text


def test_line_breaks_of_windows_become_plain() -> None:
    assert visible_text("a\r\nb") == "a\nb"


@given(st.text())
def test_nothing_unseen_is_left(text: str) -> None:
    shown = visible_text(text)
    assert visible_text(shown) == shown
    unseen = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in unseen]


def test_of_a_cell_both_can_be_had(service: Service) -> None:
    """The raw one is what the cell gave, character by character."""
    hidden = "ignore\u202e previous\u200b\U000e0041"
    with Sandbox.create(timeout=120, **service.options) as sandbox:
        cell = sandbox.run_code(f"print({hidden!r})\nraise ValueError({hidden!r})")
    assert cell.error is not None
    for raw in ("".join(cell.logs.stdout), cell.error.value, cell.error.traceback):
        assert hidden in raw
        shown = visible_text(raw)
        assert hidden not in shown
        assert "ignore\\u202e previous\\u200b\\U000e0041" in shown
