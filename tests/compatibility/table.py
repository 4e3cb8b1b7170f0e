"""``docs/compatibility.md``, made of what the clients saw."""

from __future__ import annotations

from collections.abc import Sequence

from tests.compatibility.seen import Seen

_HEAD = """# Which releases of E2B's clients work

Made by `python -m tests.compatibility`, which starts a host with this machine's default
runtime and runs every call below with each release, unmodified, from PyPI and npm. Only
`E2B_API_URL`, `E2B_SANDBOX_URL` and `E2B_API_KEY` are set, to what `code-interpreter serve`
prints. Clients before 2.7.0 know no `E2B_SANDBOX_URL`: they need a wildcard host name
with TLS. The command line runs in a terminal of its own; before 2.4 it knows no `E2B_API_URL`,
and its older releases want `E2B_ACCESS_TOKEN`, which is the API key here.

✓ works as with E2B, · the release has no such call, ✗ does not, with the reason below
"""
_SIGNS = {"ok": "✓", "absent": "·"}


def render(columns: Sequence[Seen]) -> str:
    """Markdown: a row a call, a column a release; the command line has a table of its own."""
    clients = [column for column in columns if column.client != "cli"]
    commands = [column for column in columns if column.client == "cli"]
    tables = [*_table(clients), "", "## The command line `@e2b/cli`", "", *_table(commands)]
    return "\n".join([_HEAD, *tables, *_reasons(columns)]) + "\n"


def _table(columns: Sequence[Seen]) -> list[str]:
    calls = list(dict.fromkeys(name for column in columns for name in column.calls))
    titles = [f"{column.client} {column.version}" for column in columns]
    lines = [_row("", titles), _row("---", [":-:"] * len(columns))]
    for name in calls:
        came = [column.calls.get(name, "absent") for column in columns]
        lines.append(_row(name, [_SIGNS.get(each, "✗") for each in came]))
    return lines


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _reasons(columns: Sequence[Seen]) -> list[str]:
    reasons = [
        f"- {column.client} {column.version}, {name}: `{_in_one_line(reason)}`"
        for column in columns
        for name, reason in column.failures.items()
    ]
    return ["", "## What does not work", "", *reasons] if reasons else []


def _in_one_line(reason: str) -> str:
    return " ".join(reason.replace("`", " ").split())
