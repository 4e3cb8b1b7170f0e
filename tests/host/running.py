"""A real host in a process of its own, as `code-interpreter serve` runs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from code_interpreter.protocol.control import HostFile

START_DEADLINE = 90.0
NO_POOL = {
    "CODE_INTERPRETER_POOL_SIZE": "0",
    "CODE_INTERPRETER_FURNISHED_MAX": "0",
    "CODE_INTERPRETER_WARM_LANGUAGES": "none",
}
"""Tests count the sandboxes that they made."""
STOP_DEADLINE = 20.0
_EXPORT = re.compile(r"export (E2B_[A-Z_]+)=(\S+)")


class RunningHost:
    """One `serve`; its output is in files, so that it never waits for a reader."""

    def __init__(
        self,
        data: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """``before``: the command that runs the host's, if any."""
        self.data = data
        self._options = options
        self._out, self._err = data.with_suffix(".out"), data.with_suffix(".err")
        command = [*before, sys.executable, "-m", "code_interpreter.cli.main", "serve"]
        command += ["--data-dir", str(data), "--port", "0", "--runtime", "process", *options]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env={**os.environ, **NO_POOL, **(env or {})}
            )

    def wait_until_ready(self) -> RunningHost:
        deadline = time.monotonic() + START_DEADLINE
        while not self.is_ready():
            assert self.process.poll() is None, self.stderr
            assert time.monotonic() < deadline, f"not ready: {self.stderr}"
            time.sleep(0.02)
        return self

    def is_ready(self) -> bool:
        if "--embedded" in self._options:
            return (self.data / "host.json").exists()
        return "E2B_API_KEY" in self.stdout

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    @property
    def exports(self) -> dict[str, str]:
        return dict(_EXPORT.findall(self.stdout))

    @property
    def url(self) -> str:
        return HostFile.model_validate_json((self.data / "host.json").read_bytes()).url

    @property
    def key(self) -> str:
        return HostFile.model_validate_json((self.data / "host.json").read_bytes()).api_key

    @property
    def options(self) -> Any:
        """Connection options of E2B's clients."""
        return {"api_key": self.key, "api_url": self.url, "sandbox_url": self.url}

    def http(self) -> httpx.Client:
        headers = {"X-API-KEY": self.key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_DEADLINE)


@contextmanager
def data_directory() -> Iterator[Path]:
    """A short path: unix sockets are made below it."""
    parent = Path(tempfile.mkdtemp(prefix="ci-"))
    try:
        yield parent / "data"
    finally:
        shutil.rmtree(parent)


@contextmanager
def running_host(*options: str, env: Mapping[str, str] | None = None) -> Iterator[RunningHost]:
    with data_directory() as data:
        host = RunningHost(data, *options, env=env)
        try:
            yield host.wait_until_ready()
        finally:
            host.stop()


def processes_of(directory: Path) -> list[int]:
    """Processes that have a directory (a host's data, or one box's part) on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{directory}/".encode() in line and b"cli.main" not in line:
                found.append(int(entry.name))
    return found
