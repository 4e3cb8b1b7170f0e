"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from code_interpreter.cli.main import fail
from code_interpreter.host.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the host keeps everything.", show_default=False),
]


def read_settings(**given: Any) -> Settings:
    """Settings from the environment, with what was given on the command line on top."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        fail(
            f"--{name.replace('_', '-')} or CODE_INTERPRETER_{name.upper()} is not usable: "
            f"{problem['msg']} (given: {problem['input']!r})"
        )
