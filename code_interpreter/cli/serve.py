"""``code-interpreter serve``: a host in the foreground."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.logging import RichHandler

from code_interpreter.cli.main import fail
from code_interpreter.cli.options import DataDir, read_settings
from code_interpreter.host.data_directory import DataDirectory, DataDirectoryUnusable
from code_interpreter.host.runtimes.base import RuntimeFailure
from code_interpreter.host.server import PortUnusable, Ready
from code_interpreter.host.server import serve as serve_host
from code_interpreter.host.settings import RuntimeName, Settings
from code_interpreter.host.store import StoreUnusable

LOG_BYTES = 5 * 1024 * 1024
LOGS_KEPT = 3
_errors = Console(stderr=True)
_log = logging.getLogger("code_interpreter.host")


def serve(
    port: Annotated[int | None, typer.Option(help="0 takes a free one. [default: 7070]")] = None,
    host: Annotated[str | None, typer.Option(help="Address. [default: 127.0.0.1]")] = None,
    data_dir: DataDir = None,
    runtime: Annotated[
        RuntimeName | None, typer.Option(help="How sandboxes are isolated. [default: auto]")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Domain of sandboxes' host names.")] = None,
    max_sandboxes: Annotated[int | None, typer.Option(help="At the same time.")] = None,
    pool_size: Annotated[int | None, typer.Option(help="Sandboxes kept ready.")] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Memory of a sandbox, MiB.")] = None,
    cpu_count: Annotated[float | None, typer.Option(help="Cores of a sandbox.")] = None,
    pids: Annotated[int | None, typer.Option(help="Processes of a sandbox.")] = None,
    disk_mb: Annotated[int | None, typer.Option(help="Disk of a sandbox, MiB.")] = None,
    keep_sandboxes: Annotated[
        bool, typer.Option("--keep-sandboxes", help="They outlive a clean stop.")
    ] = False,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="As clients start it: log to a file, stop when idle.")
    ] = False,
) -> None:
    """Run a host. Prints what E2B's clients need, as shell exports, once it is ready."""
    settings = read_settings(
        port=port,
        host=host,
        data_dir=data_dir,
        runtime=runtime,
        domain=domain,
        max_sandboxes=max_sandboxes,
        pool_size=pool_size,
        default_memory_mb=memory_mb,
        default_cpu_count=cpu_count,
        default_pids=pids,
        default_disk_mb=disk_mb,
    )
    try:
        _prepare_log(settings, embedded=embedded)
        uvloop.run(
            serve_host(
                settings,
                embedded=embedded,
                keep_sandboxes=keep_sandboxes,
                on_ready=_log_ready if embedded else _print_ready,
                on_progress=_log.info,
            )
        )
    except (DataDirectoryUnusable, PortUnusable, RuntimeFailure, StoreUnusable) as error:
        fail(str(error))


def _log_ready(ready: Ready) -> None:
    if ready.limits_not_enforced:
        _log.warning(
            "the runtime %r cannot enforce on this machine: %s",
            ready.runtime.name,
            ", ".join(ready.limits_not_enforced),
        )
    _log.info("ready on %s, runtime %s", ready.url, ready.runtime.name)


def _print_ready(ready: Ready) -> None:
    _log_ready(ready)
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_VOLUME_API_URL"):
        print(f"export {name}={ready.url}")
    print(f"export E2B_API_KEY={ready.api_key}", flush=True)


def _prepare_log(settings: Settings, *, embedded: bool) -> None:
    """To standard error; of an embedded host, to a file that only this user can read."""
    if embedded:
        data = DataDirectory(settings.data_dir)
        data.prepare()
        data.log.touch(mode=0o600)
        handler: logging.Handler = logging.handlers.RotatingFileHandler(
            data.log, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT
        )
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    elif sys.stderr.isatty():
        handler = RichHandler(console=_errors, show_path=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
