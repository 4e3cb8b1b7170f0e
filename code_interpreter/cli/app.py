"""The commands, one module each."""

from __future__ import annotations

import typer

from code_interpreter.cli.doctor import doctor
from code_interpreter.cli.run import run
from code_interpreter.cli.serve import serve
from code_interpreter.cli.status import status
from code_interpreter.cli.stop import stop

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Stateful code execution in isolated sandboxes on this machine.",
)
for command in (serve, run, status, stop, doctor):
    app.command()(command)
