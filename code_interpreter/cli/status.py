"""``code-interpreter status``: the host of a data directory and its sandboxes."""

from __future__ import annotations

import httpx
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from code_interpreter.cli.main import fail
from code_interpreter.cli.options import DataDir, read_settings
from code_interpreter.host.data_directory import DataDirectory
from code_interpreter.protocol.control import HostFile, ListedSandbox

DEADLINE = 10.0
ID_WIDTH = 21
"""Columns of a terminal; an id that is cut is of no use."""
WIDTH_OF_FILES = 200
_listed = TypeAdapter(list[ListedSandbox])


def status(data_dir: DataDir = None) -> None:
    """Show the host that runs on a data directory and its sandboxes. Exit code 1: none runs."""
    data = DataDirectory(read_settings(data_dir=data_dir).data_dir)
    host = data.read_host_file()
    if host is None or not data.is_locked():
        fail(f"no host runs on {data.root}: start one with `code-interpreter serve`")
    sandboxes = _ask(host)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_FILES)
    kind = "embedded" if host.embedded else "serve"
    console.print(f"{host.url} (process {host.pid}, {kind}, {data.root})", soft_wrap=True)
    identity = Column("sandbox", no_wrap=True, min_width=ID_WIDTH)
    table = Table(identity, "template", "state", "started", "ends", "memory MiB", "metadata")
    for item in sandboxes:
        table.add_row(
            item.sandbox_id,
            item.template_id,
            item.state,
            item.started_at.astimezone().strftime("%F %T"),
            item.end_at.astimezone().strftime("%F %T"),
            str(item.memory_mb),
            Text(", ".join(f"{name}={value}" for name, value in item.metadata.items())),
        )
    console.print(table if sandboxes else "no sandboxes")


def _ask(host: HostFile) -> list[ListedSandbox]:
    """All sandboxes, newest first."""
    found: list[ListedSandbox] = []
    token: str | None = ""
    try:
        with httpx.Client(base_url=host.url, timeout=DEADLINE, trust_env=False) as client:
            while token is not None:
                query = {"nextToken": token} if token else {}
                headers = {"X-API-KEY": host.api_key}
                response = client.get("/v2/sandboxes", params=query, headers=headers)
                response.raise_for_status()
                found += _listed.validate_json(response.content)
                token = response.headers.get("X-Next-Token")
    except httpx.HTTPError as error:
        fail(f"the host at {host.url} does not answer: {error}")
    return found
