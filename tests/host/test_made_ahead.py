"""What a sandbox that was half made ahead is spared when its client comes."""

from __future__ import annotations

import time
from pathlib import Path

from code_interpreter import Sandbox
from tests.host.running import RunningHost, running_host
from tests.linux import fork_server, needs_linux, user_namespace
from tests.service import Service, cache_directory

DEADLINE = 30.0


def _faults(pid: int) -> int:
    """Pages that were copied or mapped when the process came to them: field 10, proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def _gateway_and_kernel(host: RunningHost) -> tuple[int, int]:
    """Of the one sandbox that there is."""
    server = fork_server(host.process.pid)
    assert server is not None
    [init] = server.children()
    supervisors = user_namespace(init.pid)
    pids = {user_namespace(child.pid) == supervisors: child.pid for child in init.children()}
    return pids[True], pids[False]


def _wait_until_furnished(host: RunningHost) -> None:
    deadline = time.monotonic() + DEADLINE
    with host.http() as http:
        while not http.get("/pool").json()["furnished"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _wait_until_at_rest(pids: tuple[int, int]) -> None:
    deadline = time.monotonic() + DEADLINE
    faults, before = [_faults(pid) for pid in pids], [-1]
    while faults != before:
        assert time.monotonic() < deadline
        time.sleep(0.7)
        faults, before = [_faults(pid) for pid in pids], faults


@needs_linux(5, 14)
def test_most_of_what_it_writes_to_is_copied_already(service: Service) -> None:
    """Asking for the shared host makes sure that the template is there."""
    env = {
        "CODE_INTERPRETER_TEMPLATES_DIR": str(cache_directory() / "templates"),
        "CODE_INTERPRETER_POOL_SIZE": "0",
        "CODE_INTERPRETER_FURNISHED_MAX": "1",
    }
    with running_host("--runtime", "namespaces", env=env) as host:
        _wait_until_furnished(host)
        pids = _gateway_and_kernel(host)
        _wait_until_at_rest(pids)
        before = [_faults(pid) for pid in pids]
        with Sandbox.create(**host.options) as sandbox:
            assert sandbox.run_code("1 + 1").text == "2"
            gateway, kernel = (_faults(pid) - then for pid, then in zip(pids, before, strict=True))
    assert kernel < before[1] / 12
    assert gateway < before[0] / 12
