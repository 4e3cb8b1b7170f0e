"""``code-interpreter doctor``: what this machine gives to sandboxes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from code_interpreter.cli.main import fail
from code_interpreter.cli.options import DataDir, read_settings
from code_interpreter.host import cgroup_search
from code_interpreter.host.admission import memory_reserve
from code_interpreter.host.data_directory import DataDirectory, DataDirectoryUnusable
from code_interpreter.host.facts import Fact, Standing
from code_interpreter.host.machine import Section, examine
from code_interpreter.host.trial import try_out
from code_interpreter.host.verdict import Tier, Verdict, judge

_COLOURS = {
    Standing.OK: "green",
    Standing.LIMITED: "yellow",
    Standing.MISSING: "red",
    Standing.UNUSED: "dim",
}
_TIER_COLOURS = {Tier.FULL: "green", Tier.PARTIAL: "yellow", Tier.NONE: "red"}
_FILE_WIDTH = 110
_WIDEST = 120
_NAMES = 18


def doctor(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what isolation sandboxes get here, what is missing, and what would improve it.

    Exit code 0: isolated sandboxes can be made, 1: they cannot.
    """
    settings = read_settings(data_dir=data_dir)
    try:
        DataDirectory(settings.data_dir).prepare()
    except DataDirectoryUnusable as error:
        fail(str(error))
    reserve = memory_reserve(settings)
    with cgroup_search.as_found():
        trial = try_out(settings.data_dir, memory_reserve=reserve, slowness=settings.slowness)
        sections = examine(settings, trial)
    facts = [fact for section in sections for fact in section.facts]
    verdict = judge(facts, trial.isolation)
    if as_json:
        found = {section.title: [asdict(fact) for fact in section.facts] for section in sections}
        whole = {"data_dir": str(settings.data_dir), "facts": found, "verdict": asdict(verdict)}
        print(json.dumps(whole, indent=2))
    else:
        _print(sections, verdict, str(settings.data_dir))
    raise typer.Exit(verdict.tier is Tier.NONE)


def _print(sections: Sequence[Section], verdict: Verdict, data_dir: str) -> None:
    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST) if sys.stdout.isatty() else _FILE_WIDTH
    for section in sections:
        console.print(Text(section.title.capitalize(), style="bold"))
        console.print(Padding(_facts(section.facts), (0, 0, 1, 2)))
    console.print(Text("What it comes to", style="bold"))
    console.print(Padding(_verdict(verdict, data_dir), (0, 0, 0, 2)))
    if verdict.next_steps:
        console.print(Text("\nWhat would improve it", style="bold"))
    for step, names in verdict.next_steps.items():
        console.print(Text(f"  {names}:\n    {step}"), soft_wrap=True)


def _facts(facts: Sequence[Fact]) -> Table:
    table = _columns(_NAMES, len(Standing.LIMITED))
    for fact in facts:
        standing = Text(fact.standing, style=_COLOURS[fact.standing])
        table.add_row(fact.name, standing, Text(fact.detail))
    return table


def _verdict(verdict: Verdict, data_dir: str) -> Table:
    table = _columns(_NAMES)
    tier = Text(verdict.tier, style=_TIER_COLOURS[verdict.tier])
    table.add_row("runtime", Text(verdict.runtime or "none that isolates"))
    table.add_row("tier", tier)
    table.add_row("", Text(verdict.meaning))
    table.add_row("held", Text("\n".join(verdict.enforced)))
    table.add_row("not held", Text("\n".join(verdict.missing) or "nothing that was promised"))
    table.add_row("sudo in sandboxes", Text(verdict.sudo))
    table.add_row("several parties", Text(verdict.strangers))
    table.add_row("data directory", Text(data_dir))
    return table


def _columns(*widths: int) -> Table:
    """Columns of these widths at least, and one for text."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for width in widths:
        table.add_column(min_width=width, no_wrap=True)
    table.add_column(overflow="fold")
    return table
