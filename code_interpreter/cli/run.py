"""``code-interpreter run``: code in a fresh sandbox."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from code_interpreter.cli.main import fail

SPARE_SECONDS = 60
"""What a sandbox lives longer than its code may run."""
MOST_SECONDS = 86_400
"""The life of a sandbox whose code has no limit."""


def run(
    code: Annotated[
        str | None, typer.Argument(help="Code; `-` or nothing reads standard input.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file that holds the code.")
    ] = None,
    language: Annotated[str, typer.Option("--language", "-l")] = "python",
    timeout: Annotated[float, typer.Option(help="Seconds the code may run; 0: no limit.")] = 300.0,
) -> None:
    """Run code in a sandbox that ends with it. Exit code 1 if the code raised."""
    text, lifetime = _read(code, file), _lifetime(timeout)
    from code_interpreter.errors import AuthenticationException, SandboxException
    from code_interpreter.sandbox import Sandbox

    try:
        with Sandbox.create(timeout=lifetime) as sandbox:
            execution = sandbox.run_code(
                text,
                language=language,
                timeout=timeout,
                on_stdout=lambda message: _put(sys.stdout, message.line),
                on_stderr=lambda message: _put(sys.stderr, message.line),
                on_result=lambda result: _put(sys.stdout, f"{result.text or result}\n"),
            )
    except (AuthenticationException, SandboxException) as error:
        fail(str(error))
    if execution.error is not None:
        _put(sys.stderr, execution.error.traceback.rstrip() + "\n")
        raise typer.Exit(1)


def _lifetime(timeout: float) -> int:
    """Seconds for the sandbox."""
    if not (math.isfinite(timeout) and timeout >= 0):
        fail(f"--timeout takes seconds from 0 on, not {timeout}")
    return math.ceil(timeout) + SPARE_SECONDS if timeout else MOST_SECONDS


def _read(code: str | None, file: Path | None) -> str:
    if file is not None:
        if code is not None:
            fail("give either code or --file, not both")
        try:
            return file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{file} cannot be read: {error}")
    return sys.stdin.read() if code in (None, "-") else str(code)


def _put(stream: TextIO, text: str) -> None:
    print(text, end="", file=stream, flush=True)
