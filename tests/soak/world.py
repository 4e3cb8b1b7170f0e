"""A host that is killed and started again on one port, and what exists of its sandboxes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from code_interpreter.host.runtimes.namespaces import box_name, data_digest
from code_interpreter.protocol.boxes import PID_FILE
from tests.host.running import RunningHost, data_directory
from tests.linux import fork_server
from tests.service import mounts_below, shared_templates

CLEAN_DEADLINE = 120.0
"""Seconds until nothing may be left of sandboxes that have ended."""
MORE_DESCRIPTORS = 24
"""Of the host: connections that idle, some for a minute."""
MORE_MEMORY = 48 * 2**20
"""Bytes that host and fork server may have grown by: what a first use loads, and fragments."""
_BOX = re.compile(r"i[0-9a-f]{20}")
_LOG = re.compile(r"/run/(i[0-9a-f]{20})/box\.log")


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of the host's own processes."""

    descriptors: int
    host_bytes: int
    fork_server_bytes: int
    zombies: int
    mounts: int
    """Those that boxes are made of."""


class World:
    """``start`` and ``kill`` the host as often as wanted; sandboxes live on between."""

    def __init__(self, data: Path, **settings: str) -> None:
        """``settings`` are environment variables of the host."""
        self.data = data
        self._settings = settings
        self.host: RunningHost
        self.starts = 0
        self._port = "0"
        self._names: set[str] = set()
        """Of every box that was ever seen."""

    def start(self) -> None:
        env = {**shared_templates(), "CODE_INTERPRETER_POOL_SIZE": "1", **self._settings}
        options = ("--runtime", "namespaces", "--port", self._port)
        self.host = RunningHost(self.data, *options, env=env)
        self.host.wait_until_ready()
        self._port = str(urlsplit(self.host.url).port)
        self.starts += 1

    def kill(self) -> None:
        self.host.stop(signal.SIGKILL)
        self.look_around()

    def look_around(self) -> None:
        """Remember the names of the boxes that there are."""
        for place in ("run", "sandboxes"):
            self._names.update(_boxes_in(self.data / place))

    @property
    def options(self) -> dict[str, Any]:
        return {"timeout": 600, **self.host.options}

    # --- processes of ours ----------------------------------------------------------------

    def fork_server(self) -> psutil.Process:
        """Waits for one that is being started, as the pool needs it."""
        until(lambda: fork_server(self.host.process.pid) is not None, CLEAN_DEADLINE)
        found = fork_server(self.host.process.pid)
        assert found is not None
        return found

    def init(self, sandbox_id: str) -> psutil.Process:
        return psutil.Process(int(self._run(sandbox_id, PID_FILE).read_text().split()[0]))

    def supervisor(self, sandbox_id: str, name: str) -> psutil.Process:
        """envd or the gateway, by init's own word."""
        inside = self._supervisors(sandbox_id)[name]
        for child in self.init(sandbox_id).children():
            if _pid_inside(child.pid) == inside:
                return child
        raise LookupError(f"{name} is not there at the moment")

    def kernels(self, sandbox_id: str) -> list[psutil.Process]:
        """Those forked by init; what commands have left behind runs something else."""
        init, supervisors = self.init(sandbox_id), self._supervisors(sandbox_id).values()
        forks = [child for child in init.children() if child.cmdline() == init.cmdline()]
        return [child for child in forks if _pid_inside(child.pid) not in supervisors]

    def starter(self, sandbox_id: str) -> psutil.Process:
        """The process of envd's that starts commands."""
        children = self.supervisor(sandbox_id, "envd").children()
        if not children:
            raise LookupError("no command was started yet")
        return children[0]

    def bystanders(self, but: list[str]) -> list[int]:
        """Every process of every box, finished or not, but those of these sandboxes."""
        spared = {box_name(sandbox_id) for sandbox_id in but}
        found: set[int] = set()
        for file in (self.data / "run").glob(f"i*/{PID_FILE}"):
            with contextlib.suppress(OSError, IndexError, psutil.Error):
                if file.parent.name not in spared:
                    init = psutil.Process(int(file.read_text().split()[0]))
                    found.update([init.pid, *(each.pid for each in init.children(recursive=True))])
        return sorted(found)

    def log(self, sandbox_id: str) -> str:
        """What a box's own processes have said of late, but for user code."""
        log = self._run(sandbox_id, "box.log")
        return log.read_text(errors="replace")[-4000:] if log.exists() else "(it has no log)"

    def _run(self, sandbox_id: str, name: str) -> Path:
        return self.data / "run" / box_name(sandbox_id) / name

    def _supervisors(self, sandbox_id: str) -> dict[str, int]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.settimeout(10)
            line.connect(str(self._run(sandbox_id, "init.sock")))
            line.send(b'{"op": "supervisors"}')
            answer: dict[str, dict[str, int]] = json.loads(line.recv(4096))
        return answer["supervisors"]

    # --- what there is --------------------------------------------------------------------

    def left(self) -> list[str]:
        """All that exists of sandboxes but those that wait in the pool."""
        self.look_around()
        records = self._records()
        ready = [box_name(record["sandbox_id"]) for record in records if _is_ready(record)]
        found = [
            str(self.data / place / name)
            for place in ("run", "sandboxes")
            for name in _boxes_in(self.data / place)
        ]
        found += [str(record) for record in records if not _is_ready(record)]
        found += self._processes() + self._groups() + self._loop_devices()
        found += mounts_below(self.data)
        return [each for each in found if not any(name in each for name in ready)]

    def vitals(self) -> Vitals:
        host, fork_server = psutil.Process(self.host.process.pid), self.fork_server()
        children = [*host.children(), *fork_server.children()]
        zombies = [child for child in children if child.status() == psutil.STATUS_ZOMBIE]
        return Vitals(
            host.num_fds(),
            host.memory_full_info().uss,
            fork_server.memory_full_info().uss,
            len(zombies),
            len(Path(f"/proc/{fork_server.pid}/mountinfo").read_text().splitlines()),
        )

    def until_clean(self) -> None:
        until(lambda: not self.left(), CLEAN_DEADLINE, lambda: "\n".join(self.left()))

    def check(self, before: Vitals) -> None:
        """Nothing is left of sandboxes, and the host is as it was."""
        self.until_clean()
        until(lambda: self._is_like(before), CLEAN_DEADLINE, lambda: f"{before} {self.vitals()}")

    def _is_like(self, before: Vitals) -> bool:
        now = self.vitals()
        return (
            now.descriptors <= before.descriptors + MORE_DESCRIPTORS
            and now.host_bytes <= before.host_bytes + MORE_MEMORY
            and now.fork_server_bytes <= before.fork_server_bytes + MORE_MEMORY
            and now.zombies == 0
            and now.mounts <= before.mounts
        )

    def _records(self) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self.data / "store.sqlite")) as store:
            rows = store.execute("SELECT record FROM sandboxes").fetchall()
        return [json.loads(text) for (text,) in rows]

    def _processes(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    log = _LOG.search(str((entry / "fd" / "1").readlink()))
                    groups = (entry / "cgroup").read_text()
                    if self._group in groups or (log and log[1] in self._names):
                        found.append(f"process {entry.name} {log and log[1]} {groups}")
        return found

    @property
    def _group(self) -> str:
        return f"code-interpreter-{data_digest(self.data)}"

    def _groups(self) -> list[str]:
        return [
            f"{path}/{name}"
            for path, names, _ in os.walk("/sys/fs/cgroup")
            if path.endswith(self._group)
            for name in names
        ]

    def _loop_devices(self) -> list[str]:
        found = []
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                name = _BOX.search(file.read_text())
                if name and name[0] in self._names:
                    found.append(f"{file} of {name[0]}")
        return found


def _boxes_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if _BOX.fullmatch(path.name)]


def _is_ready(record: dict[str, Any]) -> bool:
    return bool(record["phase"] == "pooled")


def _pid_inside(pid: int) -> int:
    """In its own pid namespace."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise LookupError(pid)


def until(
    condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = lambda: ""
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {explain()}"
        time.sleep(0.1)


@contextmanager
def new_world(**settings: str) -> Iterator[World]:
    with data_directory() as data:
        world = World(data, **settings)
        world.start()
        try:
            yield world
        finally:
            world.host.stop()
