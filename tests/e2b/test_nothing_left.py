"""After everything: no sandbox, mount, control group or process is left."""

from __future__ import annotations

import time

import httpx
import pytest

from code_interpreter import Sandbox
from code_interpreter.host.runtimes.namespaces import box_name
from tests.service import Service, cgroups_named, mounts_below, processes_of

pytestmark = [pytest.mark.alone, pytest.mark.last]


def test_every_sandbox_was_killed(service: Service) -> None:
    service.check_no_sandbox_is_left()


def test_who_was_told_of_the_end_finds_it_nowhere(service: Service) -> None:
    for paused in (False, True):
        sandbox = Sandbox.create()
        sandbox.run_code("while_running = 1")
        if paused:
            sandbox.pause()
        assert sandbox.kill()
        headers = {"X-API-KEY": service.key}
        with httpx.Client(base_url=service.url, headers=headers) as http:
            assert http.get(f"/sandboxes/{sandbox.sandbox_id}").status_code == 404
            assert http.post(f"/sandboxes/{sandbox.sandbox_id}/pause").status_code == 404
            assert http.delete(f"/sandboxes/{sandbox.sandbox_id}").status_code == 404
            assert http.get("/v2/sandboxes").json() == []
        assert not sandbox.is_running()


def test_a_kill_leaves_nothing_of_its_sandbox(service: Service) -> None:
    sandbox = Sandbox.create()
    sandbox.run_code("import subprocess; subprocess.Popen(['sleep', '1000'])")
    sandbox.run_code("1", language="javascript")
    sandbox.commands.run("setsid nohup sleep 1000 >/dev/null 2>&1 &")
    assert len(left_of(service, sandbox.sandbox_id)) >= 4
    sandbox.kill()
    deadline = time.monotonic() + 30
    while left := left_of(service, sandbox.sandbox_id):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def left_of(service: Service, sandbox_id: str) -> list[str]:
    name = box_name(sandbox_id)
    paths = [service.data / place / name for place in ("run", "sandboxes")]
    found = [str(path) for path in paths if path.exists()]
    for path in paths:
        found += mounts_below(path) + processes_of(path)
    return found + cgroups_named(name)


def test_a_stopped_host_leaves_nothing(service: Service) -> None:
    sandbox = Sandbox.create()  # still there when the host stops
    sandbox.run_code("1")
    service.check_its_stop()
    assert left_of(service, sandbox.sandbox_id) == []
