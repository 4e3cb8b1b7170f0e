"""What hundreds of sandboxes do to a host's own life: list, pause, kill, stop, crash, restart.

``python -m tests.benchmarks.crowd [--sandboxes 300] [--json FILE]``

Each sandbox is idle, with a live Python kernel that has run a cell. One row is one thing done to
all of them; it counts as done when a client would say so, and nothing may be left at the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from code_interpreter import Sandbox
from code_interpreter.host.runtimes.namespaces import box_name, data_digest
from tests.host.running import RunningHost, data_directory
from tests.service import cgroups_named, mounts_below, processes_of, shared_templates

AT_ONCE = 20
MAKERS = 4
LEFT_DEADLINE = 120.0
"""Seconds for what is left of killed sandboxes."""
SETTINGS = {
    "CODE_INTERPRETER_MAX_SANDBOXES": "2000",
    "CODE_INTERPRETER_OVERCOMMIT": "1000",
    "CODE_INTERPRETER_WARM_LANGUAGES": "none",
}


class Crowd:
    """Sandboxes of one data directory, and the host that has them now."""

    def __init__(self, data: Path, size: int) -> None:
        self.seconds: dict[str, float] = {}
        self._data = data
        self._size = size
        self._boxes: list[Sandbox] = []
        self._host = self._start(0, keep=True)
        self._port = int(self._host.url.rpartition(":")[2])

    def _start(self, port: int, *, keep: bool) -> RunningHost:
        options = ["--runtime", "auto", "--port", str(port), *["--keep-sandboxes"] * keep]
        env = {**shared_templates(), **SETTINGS}
        return RunningHost(self._data, *options, env=env).wait_until_ready()

    @contextmanager
    def _timed(self, row: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[row] = time.perf_counter() - begin
        print(f"{row}: {self.seconds[row]:.2f} s", flush=True)

    def run(self) -> None:
        try:
            self._live()
            self._restart()
            self._kill()
            self._end()
        finally:
            self._host.stop()
        assert mounts_below(self._data) == []
        assert processes_of(self._data) == []
        assert cgroups_named(f"code-interpreter-{data_digest(self._data)}") == []

    def _live(self) -> None:
        self._make()
        with self._timed("list all"):
            assert self._listed() == self._size
        with self._timed("pause all, one after another"):
            self._each(Sandbox.pause, at_once=1)
        with self._timed("list all, paused"):
            assert self._listed() == self._size
        with self._timed("resume all, one after another"):
            self._each(lambda box: box.connect(timeout=3600), at_once=1)
        with self._timed(f"pause all, {AT_ONCE} at once"):
            self._each(Sandbox.pause, at_once=AT_ONCE)
        with self._timed(f"resume all, {AT_ONCE} at once"):
            self._each(lambda box: box.connect(timeout=3600), at_once=AT_ONCE)
        with self._timed("a cell in each, one after another"):
            self._each(_check, at_once=1)

    def _restart(self) -> None:
        self._host.stop(signal.SIGKILL)
        self._come_back("after SIGKILL", keep=True)
        with self._timed("Ctrl-C, sandboxes kept"):
            assert self._host.stop(signal.SIGINT) == 0
        self._come_back("after Ctrl-C", keep=False)

    def _come_back(self, when: str, *, keep: bool) -> None:
        with self._timed(f"start with all of them, {when}"):
            self._host = self._start(self._port, keep=keep)
        with self._timed(f"the first cell, {when}"):
            _check(self._boxes[-1])
        with self._timed(f"a cell in each, {when}"):
            self._each(_check, at_once=1)
        with self._timed(f"the first create, {when}"):
            Sandbox.create(**self._host.options).kill()
        assert self._listed() == self._size

    def _kill(self) -> None:
        with self._timed("kill all, one after another"):
            self._each(Sandbox.kill, at_once=1)
        self._wait_until_removed("nothing left of them")
        self._make()
        with self._timed(f"kill all, {AT_ONCE} at once"):
            self._each(Sandbox.kill, at_once=AT_ONCE)
        self._wait_until_removed(f"nothing left of them, {AT_ONCE} at once")

    def _end(self) -> None:
        self._make()
        with self._timed("Ctrl-C, sandboxes ended"):
            assert self._host.stop(signal.SIGINT) == 0

    def _make(self) -> None:
        with self._timed(f"make all, {MAKERS} at once"), ThreadPoolExecutor(MAKERS) as pool:
            self._boxes = list(pool.map(lambda _: self._ready(), range(self._size)))

    def _ready(self) -> Sandbox:
        box = Sandbox.create(timeout=3600, **self._host.options)
        box.run_code("mine = 1")
        return box

    def _each(self, what: Callable[[Sandbox], object], *, at_once: int) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(what, self._boxes))

    def _listed(self) -> int:
        pages = Sandbox.list(**self._connection())
        count = 0
        while pages.has_next:
            count += len(pages.next_items())
        return count

    def _connection(self) -> Any:
        return {name: self._host.options[name] for name in ("api_key", "api_url")}

    def _wait_until_removed(self, row: str) -> None:
        places = [self._data / "sandboxes", self._data / "run"]
        names = {box_name(box.sandbox_id) for box in self._boxes}
        with self._timed(row):
            deadline = time.monotonic() + LEFT_DEADLINE
            while any(entry.name in names for place in places for entry in place.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.02)


def _check(box: Sandbox) -> None:
    seen = box.run_code("mine")
    assert seen.text == "1", seen


def show(seconds: dict[str, float], size: int) -> None:
    table = Table("with all of them", "s", title=f"{size} sandboxes")
    for row, value in seconds.items():
        table.add_row(row, f"{value:.2f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandboxes", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with data_directory() as data:
        crowd = Crowd(data, arguments.sandboxes)
        crowd.run()
    show(crowd.seconds, arguments.sandboxes)
    if arguments.json:
        arguments.json.write_text(json.dumps(crowd.seconds, indent=2) + "\n")


if __name__ == "__main__":
    main()
