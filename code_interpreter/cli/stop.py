"""``code-interpreter stop``: end the host of a data directory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Annotated

import typer

from code_interpreter.cli.main import fail
from code_interpreter.cli.options import DataDir, read_settings
from code_interpreter.host.data_directory import DataDirectory


def stop(
    data_dir: DataDir = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the end.")] = 30.0,
) -> None:
    """End the host that runs on a data directory, and its sandboxes."""
    data = DataDirectory(read_settings(data_dir=data_dir).data_dir)
    host = data.read_host_file()
    if not data.is_locked():
        typer.echo(f"no host runs on {data.root}")
        return
    if host is None:
        fail(f"the host on {data.root} is still starting, or stopping; try again in a moment")
    with contextlib.suppress(ProcessLookupError):
        os.kill(host.pid, signal.SIGTERM)
    deadline = time.monotonic() + wait
    while data.is_locked():
        if time.monotonic() > deadline:
            fail(f"the host (process {host.pid}) did not end within {wait:g} s")
        time.sleep(0.05)
    typer.echo(f"the host on {data.root} has ended")
