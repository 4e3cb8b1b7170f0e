"""What the documents list is what there is."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from code_interpreter.host.settings import Settings
from code_interpreter.protocol import executions

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_readme(name: str) -> None:
    assert f"| `CODE_INTERPRETER_{name.upper()}` |" in (ROOT / "README.md").read_text()


def _types(union: object) -> list[str]:
    models = get_args(get_args(union)[0])
    return [model.model_fields["type"].default for model in models]


@pytest.mark.parametrize(
    "name", [*_types(executions.ClientMessage), *_types(executions.ExecutionEvent), "refused"]
)
def test_every_message_is_described(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "executions.md").read_text()
