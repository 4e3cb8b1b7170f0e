"""A host that stops, is killed, and comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from e2b import Sandbox, SandboxState

from tests.host.running import RunningHost, processes_of, running_host


def test_sandboxes_survive_the_death_of_the_host(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    running = Sandbox.create(timeout=100, metadata={"a": "b"}, envs={"GIVEN": "x"}, **host.options)
    paused = Sandbox.create(timeout=100, **host.options)
    expired = Sandbox.create(timeout=2, **host.options)
    dead = Sandbox.create(timeout=100, **host.options)
    paused.pause()
    command = running.commands.run("sleep 0.5; echo $A; sleep 300", background=True)
    before = running.get_info()
    host.stop(signal.SIGKILL)
    kill_box(data, dead.sandbox_id)
    time.sleep(2)

    host = RunningHost(data).wait_until_ready()
    try:
        again = Sandbox.connect(running.sandbox_id, timeout=10, **host.options)
        assert again.get_info().end_at == before.end_at
        assert again.get_info().metadata == {"a": "b"}
        assert command.pid in [process.pid for process in again.commands.list()]
        assert again.commands.run("echo $GIVEN").stdout == "x\n"
        info = Sandbox.get_info(paused.sandbox_id, **host.options)
        assert info.state is SandboxState.PAUSED
        assert Sandbox.connect(paused.sandbox_id, **host.options).is_running()
        listed = Sandbox.list(**host.options).next_items()
        assert {item.sandbox_id for item in listed} == {running.sandbox_id, paused.sandbox_id}
        assert Sandbox.kill(expired.sandbox_id, **host.options) is False
        assert Sandbox.kill(dead.sandbox_id, **host.options) is False
    finally:
        assert host.stop() == 0
    check_nothing_left(data)


def kill_box(data: Path, sandbox_id: str) -> None:
    pid = int((data / "run" / sandbox_id / "pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)


def check_nothing_left(data: Path) -> None:
    assert processes_of(data) == []
    assert list((data / "run").iterdir()) == []
    assert list((data / "sandboxes").iterdir()) == []


def test_a_host_killed_while_it_makes_sandboxes_leaves_nothing(data: Path) -> None:
    for delay in (0.02, 0.15, 0.4):
        host = RunningHost(data).wait_until_ready()
        with host.http() as http:
            with contextlib.suppress(httpx.TimeoutException):
                http.post("/v2/sandboxes", json={"templateID": "base"}, timeout=delay)
        host.stop(signal.SIGKILL)
    host = RunningHost(data).wait_until_ready()
    for item in Sandbox.list(**host.options).next_items():
        Sandbox.kill(item.sandbox_id, **host.options)
    host.stop()
    check_nothing_left(data)


def test_a_clean_stop_ends_the_sandboxes(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    Sandbox.create(timeout=100, **host.options)
    Sandbox.create(timeout=100, **host.options).pause()
    assert len(processes_of(data)) > 0
    assert host.stop(signal.SIGINT) == 0
    check_nothing_left(data)


def test_unless_they_are_to_be_kept(data: Path) -> None:
    host = RunningHost(data, "--keep-sandboxes").wait_until_ready()
    sandbox = Sandbox.create(timeout=100, **host.options)
    assert host.stop() == 0
    host = RunningHost(data).wait_until_ready()
    assert Sandbox.connect(sandbox.sandbox_id, **host.options).is_running()
    assert host.stop() == 0
    check_nothing_left(data)


def test_the_limit_of_sandboxes() -> None:
    with running_host("--max-sandboxes", "2") as host, host.http() as http:
        made = [Sandbox.create(timeout=60, **host.options) for _ in range(2)]
        started = time.monotonic()
        refused = http.post("/v2/sandboxes", json={"templateID": "base"})
        assert refused.status_code == refused.json()["code"] == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["Should-Retry"] == "false"
        assert "CODE_INTERPRETER_MAX_SANDBOXES" in refused.json()["message"]
        assert time.monotonic() - started < 1
        made[0].kill()
        Sandbox.create(timeout=60, **host.options)


def wait_for_pool(host: RunningHost, size: int) -> None:
    """Until so many are stored as ready."""
    deadline = time.monotonic() + 20
    while True:
        with contextlib.closing(sqlite3.connect(host.data / "store.sqlite")) as store:
            records = [text for (text,) in store.execute("SELECT record FROM sandboxes")]
        if sum('"pooled"' in record for record in records) == size:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_pool_makes_create_quick() -> None:
    with running_host("--pool-size", "2") as host, host.http() as http:
        wait_for_pool(host, 2)
        assert http.get("/v2/sandboxes").json() == []
        ready = {path.name for path in (host.data / "run").iterdir() if path.is_dir()}
        for template in ("code-interpreter-v1", "base"):
            sandbox = Sandbox.create(template, timeout=60, **host.options)
            assert sandbox.sandbox_id in ready
            assert sandbox.get_info().template_id == template
            assert sandbox.is_running()


def test_a_dead_sandbox_of_the_pool_is_not_handed_out() -> None:
    with running_host("--pool-size", "1") as host:
        wait_for_pool(host, 1)
        (name,) = (path.name for path in (host.data / "run").iterdir() if path.is_dir())
        kill_box(host.data, name)
        sandbox = Sandbox.create("base", timeout=60, **host.options)
        assert sandbox.sandbox_id != name
        assert sandbox.commands.run("echo alive").stdout == "alive\n"


def test_a_pool_is_cleaned_up_with_its_host(data: Path) -> None:
    host = RunningHost(data, "--pool-size", "1").wait_until_ready()
    wait_for_pool(host, 1)
    host.stop(signal.SIGKILL)
    assert len(processes_of(data)) > 0
    host = RunningHost(data).wait_until_ready()
    assert processes_of(data) == []
    assert host.stop() == 0
    check_nothing_left(data)


def test_what_nobody_has_a_record_of_is_ended(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    Sandbox.create(timeout=100, **host.options)
    host.stop(signal.SIGKILL)
    for file in data.glob("store.sqlite*"):
        file.unlink()
    host = RunningHost(data).wait_until_ready()
    assert processes_of(data) == []
    assert Sandbox.list(**host.options).next_items() == []
    assert host.stop() == 0
    check_nothing_left(data)


def test_sandboxes_of_another_runtime_are_not_taken_over(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    sandbox = Sandbox.create(timeout=100, **host.options)
    host.stop(signal.SIGKILL)
    with sqlite3.connect(data / "store.sqlite") as store:
        store.execute("UPDATE sandboxes SET record = replace(record, '\"process\"', '\"other\"')")
    store.close()
    host = RunningHost(data)
    assert host.process.wait(20) == 1
    assert "--runtime other" in host.stderr
    assert "Traceback" not in host.stderr
    with sqlite3.connect(data / "store.sqlite") as store:
        store.execute("UPDATE sandboxes SET record = replace(record, '\"other\"', '\"process\"')")
    store.close()
    host = RunningHost(data).wait_until_ready()
    assert Sandbox.connect(sandbox.sandbox_id, **host.options).is_running()
    assert host.stop() == 0
    check_nothing_left(data)


def test_a_create_that_fails_leaves_nothing(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    with host.http() as http:
        (data / "sandboxes").rmdir()
        (data / "sandboxes").write_text("in the way")
        refused = http.post("/v2/sandboxes", json={"templateID": "base"})
        assert refused.status_code == refused.json()["code"] == 500
        assert "sandboxes" in refused.json()["message"]
        assert [path.name for path in (data / "run").iterdir()] == ["api.sock"]
        assert http.get("/v2/sandboxes").json() == []
        (data / "sandboxes").unlink()
        assert http.post("/v2/sandboxes", json={"templateID": "base"}).status_code == 201
    assert host.stop() == 0
    check_nothing_left(data)


@pytest.mark.parametrize("delay", [0.01, 0.2])
def test_a_stop_in_the_middle_of_a_create(data: Path, delay: float) -> None:
    host = RunningHost(data).wait_until_ready()
    with host.http() as http, contextlib.suppress(httpx.TimeoutException):
        http.post("/v2/sandboxes", json={"templateID": "base"}, timeout=delay)
    with ThreadPoolExecutor() as pool, host.http() as http:
        request = pool.submit(http.post, "/v2/sandboxes", json={"templateID": "base"})
        time.sleep(delay)
        started = time.monotonic()
        assert host.stop() == 0
        assert time.monotonic() - started < 10
        with contextlib.suppress(httpx.TransportError):
            assert request.result().status_code in (201, 500, 502, 503)
    assert "Traceback" not in host.stderr
    check_nothing_left(data)
