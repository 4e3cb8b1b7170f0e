"""Nothing vanishes and nothing is orphaned, whichever of our processes is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from code_interpreter import Sandbox
from code_interpreter.host.runtimes.namespaces import box_name
from code_interpreter.protocol.boxes import PID_FILE
from tests.host.running import RunningHost, data_directory
from tests.linux import fork_server, user_namespace
from tests.service import cache_directory, cgroups_named, mounts_below, processes_of

pytestmark = [pytest.mark.security, pytest.mark.timeout(180)]


def _start(data: Path, **settings: str) -> RunningHost:
    templates = cache_directory() / "templates"
    env = {"CODE_INTERPRETER_TEMPLATES_DIR": str(templates), "CODE_INTERPRETER_POOL_SIZE": "1"}
    env |= settings
    return RunningHost(data, "--runtime", "namespaces", env=env).wait_until_ready()


@pytest.fixture
def data(service: object) -> Iterator[Path]:
    """Asking for the shared host makes sure that the template is there."""
    with data_directory() as path:
        yield path


def _wait_until(condition: object, seconds: float = 15) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def _forkserver(host: RunningHost) -> psutil.Process:
    found = fork_server(host.process.pid)
    assert found is not None
    return found


def test_after_the_host_was_killed_what_lives_is_adopted_and_what_died_is_cleaned_up(
    data: Path,
) -> None:
    host = _start(data)
    live, dead = (Sandbox.create(timeout=600, **host.options) for _ in range(2))
    live.run_code("kept = 42")
    server = live.commands.run("sleep 1000", background=True)
    others = [child.pid for child in _forkserver(host).children()]
    others.remove(_init_of(data, box_name(live.sandbox_id)).pid)
    assert _init_of(data, box_name(dead.sandbox_id)).pid in others
    host.stop(signal.SIGKILL)
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    again = _start(data)
    try:
        with again.http() as http:
            status = http.get(f"/sandboxes/{dead.sandbox_id}").status_code
        assert status == 404
        assert not (data / "sandboxes" / box_name(dead.sandbox_id)).exists()
        found = Sandbox.connect(live.sandbox_id, **again.options)
        assert found.run_code("kept").text == "42"
        assert server.pid in [process.pid for process in found.commands.list()]
        assert found.kill()
    finally:
        again.stop()


def test_the_fork_server_comes_back_and_nothing_is_left_after_a_clean_stop(data: Path) -> None:
    host = _start(data)
    try:
        first = Sandbox.create(timeout=600, **host.options)
        os.kill(_forkserver(host).pid, signal.SIGKILL)
        assert first.run_code("1 + 1").text == "2", "live sandboxes do not need it"
        second = Sandbox.create(timeout=600, **host.options)
        third = Sandbox.create(timeout=600, **host.options)
        assert third.run_code("2 + 2").text == "4"
        names = [box_name(sandbox.sandbox_id) for sandbox in (first, second, third)]
        for sandbox in (first, second, third):
            assert sandbox.kill()
        names += [_live_and_die(host) for _ in range(6)]
    finally:
        stopped = host.stop()
    assert stopped == 0
    _wait_until(lambda: processes_of(data) == [])
    assert list((data / "sandboxes").iterdir()) == []
    assert mounts_below(data) == []
    assert [found for name in names for found in cgroups_named(name)] == []


def _live_and_die(host: RunningHost) -> str:
    sandbox = _create(host)
    assert sandbox.run_code("1 + 1").text == "2"
    assert sandbox.kill()
    return box_name(sandbox.sandbox_id)


def test_boxes_that_are_half_made_are_used_and_go_with_their_host(data: Path) -> None:
    ahead = {"CODE_INTERPRETER_POOL_SIZE": "0", "CODE_INTERPRETER_FURNISHED_MAX": "2"}
    host = _start(data, **ahead)
    with ThreadPoolExecutor(3) as threads:
        burst = list(threads.map(lambda _: _create(host), range(3)))
    _wait_until(lambda: _furnished(host) == 2, 60)
    dead, used = (path.name for path in _by_age(data / "run")[-2:])
    os.kill(_init_of(data, dead).pid, signal.SIGKILL)
    os.kill(_waiting_kernel(_init_of(data, used)), signal.SIGKILL)
    try:
        next_one = _create(host)  # not of the dead one, but of the one after it
        assert box_name(next_one.sandbox_id) == used
        assert next_one.run_code("6 * 7").text == "42"
        _wait_until(lambda: _furnished(host) == 2, 60)
        left = {path.name for path in _by_age(data / "run")[-2:]}
    finally:
        host.stop(signal.SIGKILL)
    again = _start(data, **ahead)
    try:
        _wait_until(lambda: left.isdisjoint(path.name for path in (data / "run").iterdir()))
        assert [found for name in (dead, *left) for found in cgroups_named(name)] == []
        for sandbox in (*burst, next_one):
            assert Sandbox.connect(sandbox.sandbox_id, **again.options).kill()
    finally:
        assert again.stop() == 0
    assert list((data / "sandboxes").iterdir()) == []
    assert mounts_below(data) == []


def _init_of(data: Path, name: str) -> psutil.Process:
    return psutil.Process(int((data / "run" / name / PID_FILE).read_text().split()[0]))


def _waiting_kernel(init: psutil.Process) -> int:
    """It is in the user namespace for user code, below the one of init."""
    supervisors = user_namespace(init.pid)
    (pid,) = (child.pid for child in init.children() if user_namespace(child.pid) != supervisors)
    return pid


def _create(host: RunningHost) -> Sandbox:
    return Sandbox.create(timeout=600, **host.options)


def _furnished(host: RunningHost) -> int:
    with host.http() as http:
        return int(http.get("/pool").json()["furnished"])


def _by_age(directory: Path) -> list[Path]:
    boxes = [path for path in directory.iterdir() if path.is_dir()]
    return sorted(boxes, key=lambda path: (path / PID_FILE).stat().st_mtime_ns)
