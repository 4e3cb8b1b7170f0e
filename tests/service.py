"""The one real host that the end-to-end tests share, and what it may not leave behind."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

PREPARATION_DEADLINE = 1500.0
"""Seconds until a host is ready that has to install the packages of its template first."""
STOP_DEADLINE = 30.0
NOTHING_AHEAD = {
    "CODE_INTERPRETER_WARM_LANGUAGES": "none",
    "CODE_INTERPRETER_FURNISHED_MAX": "0",
}
"""Tests say what runs in a sandbox, and what it takes."""
_EXPORT = re.compile(r"^export (E2B_[A-Z_]+)=(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Service:
    """A running ``code-interpreter serve``."""

    data: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    """What it told to export."""

    @property
    def url(self) -> str:
        return self.environment["E2B_API_URL"]

    @property
    def key(self) -> str:
        return self.environment["E2B_API_KEY"]

    @property
    def options(self) -> dict[str, Any]:
        """Connection options of E2B's clients."""
        return {"api_key": self.key, "api_url": self.url, "sandbox_url": self.url}

    def check_nothing_is_left(self) -> None:
        """Every sandbox was killed, and nothing of the host survives its stop."""
        if self.process.poll() is None:
            self.check_no_sandbox_is_left()
            self.check_its_stop()

    def check_no_sandbox_is_left(self) -> None:
        answer = httpx.get(f"{self.url}/v2/sandboxes", headers={"X-API-KEY": self.key})
        assert answer.json() == []

    def check_its_stop(self) -> None:
        assert self.stop() == 0
        assert mounts_below(self.data) == []
        assert processes_of(self.data) == []
        assert not (self.data / "host.json").exists()

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_DEADLINE)


def cache_directory() -> Path:
    """Kept from run to run: prepared templates and npm packages."""
    base = os.environ.get("XDG_CACHE_HOME", "").strip() or "~/.cache"
    path = Path(base).expanduser() / "code-interpreter-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def made_once(directory: Path) -> Iterator[bool]:
    """Whether a directory is complete already; it is when the block has ended.

    Others who want it wait: tests may run in several processes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = directory / "installed"
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield made.exists()
        made.touch()


@contextmanager
def running_service(**settings: str) -> Iterator[Service]:
    """A host with data of its own, on a free port, with the machine's default runtime.

    ``settings`` are environment variables of the host.
    """
    parent = Path(tempfile.mkdtemp(prefix="ci-"))  # short: unix sockets are made below it
    data = parent / "data"
    output, log = parent / "out", parent / "log"
    command = [sys.executable, "-m", "code_interpreter.cli.main", "serve", "--port", "0"]
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **shared_templates(), **NOTHING_AHEAD, **settings},
        )
    try:
        environment = _wait(process, output, log)
        service = Service(data, process, environment)
        yield service
        service.stop()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(parent, ignore_errors=True)


def shared_templates() -> dict[str, str]:
    """The variable that lets a host use the templates of earlier runs."""
    return {"CODE_INTERPRETER_TEMPLATES_DIR": str(cache_directory() / "templates")}


def _wait(process: subprocess.Popen[bytes], output: Path, log: Path) -> dict[str, str]:
    deadline = time.monotonic() + PREPARATION_DEADLINE
    while "E2B_API_KEY" not in output.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the host did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.05)
    return dict(_EXPORT.findall(output.read_text()))


def mounts_below(directory: Path) -> list[str]:
    """Mounts that this process sees under, or made of, a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f"{directory}/" in line]


def processes_of(directory: Path) -> list[str]:
    """Command lines of processes that were started with a directory, or see it mounted."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            seen = command + (entry / "mountinfo").read_bytes()
        except OSError:
            continue
        if f"{directory}/".encode() in seen:
            found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode()}")
    return found


def cgroups_named(name: str) -> list[str]:
    """Control groups with ``name`` in theirs, in every hierarchy."""
    return [path for path, _, _ in os.walk("/sys/fs/cgroup") if name in Path(path).name]
