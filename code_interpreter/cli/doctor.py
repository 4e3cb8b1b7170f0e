"""``code-interpreter doctor``: what isolation sandboxes get on this machine."""

from __future__ import annotations

import asyncio

from rich.console import Console

from code_interpreter.cli.main import fail
from code_interpreter.cli.options import DataDir, read_settings
from code_interpreter.host.assembly import choose_runtime
from code_interpreter.host.data_directory import DataDirectory, DataDirectoryUnusable
from code_interpreter.host.runtimes.base import Isolation, RuntimeFailure
from code_interpreter.host.settings import RuntimeName, Settings


def doctor(data_dir: DataDir = None) -> None:
    """Say what each runtime enforces here, what is missing, and what would improve it."""
    settings = read_settings(data_dir=data_dir)
    try:
        DataDirectory(settings.data_dir).prepare()
    except DataDirectoryUnusable as error:
        fail(str(error))
    console = Console()
    for name in (RuntimeName.NAMESPACES, RuntimeName.PROCESS):
        _report(console, name, settings)


def _report(console: Console, name: RuntimeName, settings: Settings) -> None:
    console.print(f"\n[bold]runtime {name}[/bold]")
    try:
        runtime, _ = asyncio.run(
            choose_runtime(settings.model_copy(update={"runtime": name}), console.print)
        )
    except RuntimeFailure as error:
        console.print(f"  not usable: {error}", soft_wrap=True, markup=False)
        return
    _print(console, runtime.isolation())


def _print(console: Console, isolation: Isolation) -> None:
    lines = [
        f"  isolation: {isolation.tier}",
        *(f"  + {item}" for item in isolation.enforced),
        *(f"  - missing: {item}" for item in isolation.missing),
        *(f"  > to improve: {item}" for item in isolation.remedies),
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
