"""Entry point: says in one line what is missing, before anything needs it."""

from __future__ import annotations

import sys
from typing import NoReturn

HOST_EXTRA = "pip install 'code-interpreter[host]'"


def main() -> None:
    try:
        from code_interpreter.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "code_interpreter":
            raise
        fail(f"the package {error.name!r} is missing, which hosts need: {HOST_EXTRA}")
    app(prog_name="code-interpreter")


def fail(message: str) -> NoReturn:
    """One line on standard error, and exit code 1."""
    print(f"code-interpreter: {message}", file=sys.stderr, flush=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
