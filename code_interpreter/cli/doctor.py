"""``code-interpreter doctor``: what this machine gives to sandboxes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table

from code_interpreter.cli.main import fail
from code_interpreter.cli.options import DataDir, read_settings
from code_interpreter.host.assembly import isolation_of
from code_interpreter.host.data_directory import DataDirectory, DataDirectoryUnusable
from code_interpreter.host.machine import Fact, Standing, examine
from code_interpreter.host.runtimes.base import Isolation, RuntimeFailure
from code_interpreter.host.settings import RuntimeName

_COLOURS = {Standing.OK: "green", Standing.LIMITED: "yellow", Standing.MISSING: "red"}
_NEEDED = ("platform", "namespaces", "user namespaces", "overlayfs")


def doctor(data_dir: DataDir = None) -> None:
    """Say what isolation sandboxes get here, what is missing, and what would improve it.

    Exit code 1: isolated sandboxes cannot be made on this machine.
    """
    settings = read_settings(data_dir=data_dir)
    try:
        DataDirectory(settings.data_dir).prepare()
    except DataDirectoryUnusable as error:
        fail(str(error))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    facts = examine()
    console.print(_table(facts))
    console.print(f"data directory: {settings.data_dir}")
    for name in (RuntimeName.NAMESPACES, RuntimeName.PROCESS):
        try:
            _print(console, name, isolation_of(settings, name))
        except (OSError, RuntimeFailure) as error:
            console.print(f"runtime {name} is not usable: {error}", markup=False)
    missing = [fact for fact in facts if fact.standing is Standing.MISSING]
    if any(fact.name in _NEEDED for fact in missing):
        console.print("isolated sandboxes cannot be made on this machine as it is")
        raise typer.Exit(1)


def _table(facts: Sequence[Fact]) -> Table:
    table = Table("this machine", "", "", "to improve", box=None, pad_edge=False)
    for fact in facts:
        colour = _COLOURS[fact.standing]
        table.add_row(fact.name, f"[{colour}]{fact.standing}[/]", fact.detail, fact.remedy)
    return table


def _print(console: Console, name: RuntimeName, isolation: Isolation) -> None:
    chosen = " (the default)" if name is RuntimeName.NAMESPACES else " (only if asked for)"
    lines = [
        f"\nruntime {name}{chosen}: {isolation.tier}",
        *(f"  + {item}" for item in isolation.enforced),
        *(f"  - missing: {item}" for item in isolation.missing),
        *(f"  > to improve: {item}" for item in isolation.remedies),
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
