"""What the README says of settings, commands and code is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from code_interpreter.cli.app import app
from code_interpreter.host.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `CODE_INTERPRETER_(\w+)` \| (.*?) \|", README, re.MULTILINE))


def test_every_setting_is_listed() -> None:
    assert set(ROWS) == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_default(name: str) -> None:
    default = Settings.model_fields[name].default
    if isinstance(default, str | int | float):
        text = str(default).lower() if isinstance(default, bool) else str(default)
        assert ROWS[name.upper()] == f"`{text}`"


def test_commands_that_are_named_exist() -> None:
    named = set(re.findall(r"code-interpreter (\w+)", README)) - {"name"}
    assert {"serve", "run", "status", "stop", "doctor"} <= named
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert named - {"v1"} <= known


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


@pytest.mark.parametrize("number", [0])
def test_the_example_compiles(number: int) -> None:
    compile(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number], "README.md", "exec")
