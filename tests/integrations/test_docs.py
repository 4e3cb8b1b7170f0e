"""What the document on frameworks shows is what was run."""

from __future__ import annotations

import re

import pytest

from tests.integrations.frameworks import PROGRAMS

DOCUMENT = (PROGRAMS.parents[2] / "docs" / "integrations.md").read_text()
SHOWN: list[tuple[str, str]] = re.findall(r"```(python|js)\n(.*?)```", DOCUMENT, re.DOTALL)
ENDINGS = {"python": ".py", "js": ".mjs"}


def _flat(text: str) -> str:
    """Without indentation."""
    return "\n".join(line.strip() for line in text.splitlines())


@pytest.mark.parametrize(("language", "text"), SHOWN)
def test_it_stands_in_a_program(language: str, text: str) -> None:
    programs = PROGRAMS.glob(f"*{ENDINGS[language]}")
    assert any(_flat(text) in _flat(program.read_text()) for program in programs)
