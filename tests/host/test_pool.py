"""Sandboxes that are made ahead."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import Sandbox

from code_interpreter import Sandbox as CodeSandbox
from tests.host.running import RunningHost, processes_of, running_host

pytestmark = pytest.mark.timeout(180)
DEADLINE = 60.0


@pytest.fixture
def host() -> Iterator[RunningHost]:
    settings = {"CODE_INTERPRETER_POOL_SIZE": "1", "CODE_INTERPRETER_POOL_MAX": "3"}
    with running_host(env=settings) as running:
        _wait_until(lambda: _pool(running)["ready"] == 1)
        yield running


def _pool(host: RunningHost) -> dict[str, Any]:
    with host.http() as http:
        state: dict[str, Any] = http.get("/pool").json()
    return state


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def _names(host: RunningHost) -> set[str]:
    """Of all boxes there are, ready ones too."""
    return {path.name for path in (host.data / "run").iterdir() if path.is_dir()}


def test_a_create_gets_what_is_ready_and_another_one_follows(host: RunningHost) -> None:
    before = _names(host)
    assert _pool(host)["memoryBytes"] > 0
    sandbox = Sandbox.create(timeout=60, **host.options)
    assert {sandbox.sandbox_id} == before
    _wait_until(lambda: _pool(host)["ready"] == 1)
    assert _names(host) > before
    sandbox.kill()


def test_it_is_what_the_caller_asked_for(host: RunningHost) -> None:
    envs = {"GREETING": "hello"}
    with Sandbox.create("code-interpreter-v1", timeout=60, envs=envs, **host.options) as sandbox:
        run = sandbox.commands.run("echo $GREETING $E2B_SANDBOX_ID $E2B_TEMPLATE_ID")
        assert run.stdout.split() == ["hello", sandbox.sandbox_id, "code-interpreter-v1"]
        first = sandbox._envd_access_token
    _wait_until(lambda: _pool(host)["ready"] == 1)
    with Sandbox.create("base", timeout=60, **host.options) as sandbox:
        run = sandbox.commands.run("echo $GREETING- $E2B_SANDBOX_ID $E2B_TEMPLATE_ID")
        assert run.stdout.split() == ["-", sandbox.sandbox_id, "base"]
        assert sandbox._envd_access_token != first


def test_one_that_has_died_is_nobodys(host: RunningHost) -> None:
    (dead,) = _names(host)
    for pid in processes_of(host.data / "run" / dead):
        os.kill(pid, signal.SIGKILL)
    with Sandbox.create(timeout=60, **host.options) as sandbox:
        assert sandbox.sandbox_id != dead
        assert sandbox.commands.run("echo alive").stdout == "alive\n"
    _wait_until(lambda: not Path(host.data / "run" / dead).exists())
    _wait_until(lambda: _pool(host)["ready"] == 1)


def test_kernels_of_other_languages_are_started_ahead() -> None:
    settings = {
        "CODE_INTERPRETER_POOL_SIZE": "1",
        "CODE_INTERPRETER_WARM_LANGUAGES": "bash, cobol",
        "CODE_INTERPRETER_WARM_SECONDS": "1",
    }
    with running_host(env=settings) as host:
        _wait_until(lambda: _pool(host)["ready"] == 1)
        _wait_until(lambda: _pool(host)["warm"] == 1)
        assert _pool(host)["memoryBytes"] > 100 << 20
        with CodeSandbox.create(timeout=60, envs={"WHO": "me"}, **host.options) as sandbox:
            _wait_until(lambda: _kernel_states(host, sandbox).get("bash") == "idle")
            assert "cobol" not in _kernel_states(host, sandbox)
            time.sleep(0.5)
            assert sandbox.run_code("echo $WHO", language="bash").logs.stdout == ["me\n"]


def test_what_was_started_ahead_ends_where_it_is_not_used() -> None:
    settings = {
        "CODE_INTERPRETER_POOL_SIZE": "1",
        "CODE_INTERPRETER_WARM_LANGUAGES": "bash",
        "CODE_INTERPRETER_WARM_SECONDS": "0.5",
    }
    with running_host(env=settings) as host:
        _wait_until(lambda: _pool(host)["warm"] == 1)
        with CodeSandbox.create(timeout=300, **host.options) as sandbox:
            _wait_until(lambda: "bash" in _live_languages(host, sandbox))
            _wait_until(lambda: "bash" not in _live_languages(host, sandbox))
            assert sandbox.run_code("1 + 1").text == "2"
            assert sandbox.run_code("echo 3", language="bash").logs.stdout == ["3\n"]


def _kernel_states(host: RunningHost, sandbox: CodeSandbox) -> dict[str, str]:
    """By kernelspec; without asking for any that is not there."""
    headers = {
        "E2b-Sandbox-Id": sandbox.sandbox_id,
        "E2b-Sandbox-Port": "49999",
        "X-Access-Token": str(sandbox._envd_access_token),
    }
    with host.http() as http:
        kernels = http.get("/api/kernels", headers=headers).json()
    return {kernel["name"]: kernel["execution_state"] for kernel in kernels}


def _live_languages(host: RunningHost, sandbox: CodeSandbox) -> set[str]:
    """Those that have a kernel now."""
    headers = {
        "E2b-Sandbox-Id": sandbox.sandbox_id,
        "E2b-Sandbox-Port": "49999",
        "X-Access-Token": str(sandbox._envd_access_token),
    }
    with host.http() as http:
        specs = http.get("/api/kernelspecs", headers=headers).json()["kernelspecs"]
    return {each["spec"]["language"] for name, each in specs.items() if name.startswith("live-")}


def test_many_at_once_all_get_one_and_the_pool_grows_to_its_bound(host: RunningHost) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: Sandbox.create(timeout=120, **host.options), range(4)))
    assert len({sandbox.sandbox_id for sandbox in made}) == 4
    for sandbox in made:
        assert sandbox.commands.run("echo mine").stdout == "mine\n"
        assert sandbox.kill()
    assert _pool(host)["wanted"] == 3
    _wait_until(lambda: _pool(host)["ready"] == 3)


def test_a_client_that_goes_away_leaves_its_sandbox_to_the_next(host: RunningHost) -> None:
    for _ in range(5):
        with host.http() as http:
            with contextlib.suppress(httpx.TimeoutException):
                http.post("/v2/sandboxes", json={"templateID": "base"}, timeout=0.001)
    with Sandbox.create(timeout=60, **host.options) as sandbox:
        assert sandbox.commands.run("echo mine").stdout == "mine\n"
    _wait_until(lambda: _pool(host)["ready"] == _pool(host)["wanted"])
    with host.http() as http:
        assert http.get("/v2/sandboxes").json() == []
    assert len(_names(host)) == _pool(host)["ready"]
