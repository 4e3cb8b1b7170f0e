"""``code-interpreter run``: code in a fresh sandbox."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from code_interpreter.cli.main import fail


def run(
    code: Annotated[
        str | None, typer.Argument(help="Code; `-` or nothing reads standard input.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file that holds the code.")
    ] = None,
    language: Annotated[str, typer.Option("--language", "-l")] = "python",
    timeout: Annotated[float, typer.Option(help="Seconds the code may run.")] = 300.0,
) -> None:
    """Run code in a sandbox that ends with it. Exit code 1 if the code raised."""
    text = _read(code, file)
    from code_interpreter.errors import AuthenticationException, SandboxException
    from code_interpreter.sandbox import Sandbox

    try:
        with Sandbox.create(timeout=int(timeout) + 60) as sandbox:
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
