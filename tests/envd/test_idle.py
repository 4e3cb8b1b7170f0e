"""An envd that nobody needs ends, and comes back for whoever does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2b import Sandbox

from code_interpreter import Sandbox as OurSandbox
from code_interpreter.envd import server
from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.init import IDLE_SECONDS
from code_interpreter.host.runtimes.namespaces import box_name
from tests.envd.supervisors import processes
from tests.service import Service

DEADLINE = 20.0
DEPTH = 400
"""Levels of directories with names of 250 letters: far deeper than a path may be long."""


class Short:
    """One by itself, that ends after a second at most."""

    def __init__(self, top: Path) -> None:
        self._socket = top / "envd.sock"
        (top / "state").mkdir(0o700)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self._socket))
        self.listener.listen()
        config = GuestConfig(
            isolated=False,
            home=str(top),
            state_directory=str(top / "state"),
            listen_fd=self.listener.fileno(),
            idle_seconds=0.3,
        )
        command = [sys.executable, "-m", "code_interpreter.envd", "--config", config.dump()]
        self.process = subprocess.Popen(command, pass_fds=(self.listener.fileno(),))

    def call(self, method: str, **message: object) -> httpx.Response:
        """Over a connection that is closed after it."""
        with self.connect() as http:
            return http.post(f"/{method}", json=message, headers={"Connection": "close"})

    def connect(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self._socket))
        return httpx.Client(transport=transport, base_url="http://envd", timeout=DEADLINE)

    def ends(self) -> bool:
        return self.process.wait(DEADLINE) == 0

    def stays(self) -> bool:
        time.sleep(1)
        return self.process.poll() is None


@pytest.fixture
def envd(tmp_path: Path) -> Iterator[Short]:
    envd = Short(tmp_path)
    yield envd
    envd.process.kill()
    envd.process.wait(DEADLINE)
    envd.listener.close()


def test_without_visitors_it_ends(envd: Short) -> None:
    assert envd.call("process.Process/List").status_code == 200
    assert envd.ends()


def test_a_connection_keeps_it(envd: Short) -> None:
    with envd.connect() as http:
        assert http.get("/health").status_code == 204
        assert envd.stays()
    assert envd.ends()


def test_a_watcher_keeps_it(envd: Short, tmp_path: Path) -> None:
    made = envd.call("filesystem.Filesystem/CreateWatcher", path=str(tmp_path))
    watcher = made.json()["watcherId"]
    assert envd.stays()
    (tmp_path / "new").touch()
    seen = envd.call("filesystem.Filesystem/GetWatcherEvents", watcherId=watcher).json()
    assert "new" in [event["name"] for event in seen["events"]]
    envd.call("filesystem.Filesystem/RemoveWatcher", watcherId=watcher)
    assert envd.ends()


def test_a_process_keeps_it(envd: Short) -> None:
    message = b'{"process": {"cmd": "/bin/sleep", "args": ["60"]}}'
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"Content-Type": "application/connect+json"}
    with envd.connect() as http:
        with http.stream("POST", "/process.Process/Start", content=framed, headers=headers) as run:
            next(run.iter_bytes())
    assert envd.stays()
    running = envd.call("process.Process/List").json()["processes"]
    assert [process["config"]["cmd"] for process in running] == ["/bin/sleep"]


def _visit(service: Service, sandbox_id: str) -> None:
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(service.data / "run" / box_name(sandbox_id) / "envd.sock"))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to see processes inside a sandbox")
@pytest.mark.timeout(120)
def test_it_comes_back_as_it_was(service: Service) -> None:
    with Sandbox.create(timeout=120, envs={"KEPT": "yes"}, **service.options) as box:
        _visit(service, box.sandbox_id)
        deadline = time.monotonic() + 3 * IDLE_SECONDS
        while len(processes(box.sandbox_id)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        envd = processes(box.sandbox_id)[2]
        while envd.is_running():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        anonymous = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49983"}
        refused = httpx.get(f"{service.url}/envs", headers=anonymous, trust_env=False)
        assert refused.status_code == 401
        assert box.commands.run("echo $KEPT $E2B_SANDBOX_ID").stdout.split() == [
            "yes",
            box.sandbox_id,
        ]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to see processes inside a sandbox")
def test_a_fresh_sandbox_has_none_until_it_is_needed(service: Service) -> None:
    """One that is made for its client; what envd would have said and done is there all the same."""
    with OurSandbox.create(
        timeout=120, envs={"KEPT": "yes"}, cpu_count=1, **service.options
    ) as box:
        code = "!cat /run/e2b/.E2B_SANDBOX /run/e2b/.E2B_SANDBOX_ID; stat -c %U%a /run/e2b/.E2B*"
        shown = "".join(box.run_code(code).logs.stdout)
        assert shown == f"true{box.sandbox_id}" + "root644\n" * 4
        assert len(processes(box.sandbox_id)) == 2, "init and the gateway"
        anonymous = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49983"}
        refused = httpx.get(f"{service.url}/envs", headers=anonymous, trust_env=False)
        assert refused.status_code == 401
        output = box.commands.run("echo $KEPT $E2B_SANDBOX_ID").stdout
        assert output.split() == ["yes", box.sandbox_id]
        assert len(processes(box.sandbox_id)) == 3


def test_a_directory_deeper_than_any_path_is_no_end(tmp_path: Path) -> None:
    """Of which user code can make some, and envd has it open while it lists or removes it."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("x" * 250, dir_fd=descriptor)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    with pytest.raises(OSError, match="too long"):
        Path(f"/proc/self/fd/{descriptor}").readlink()
    before = server._descriptors()
    assert str(descriptor) in before
    os.close(descriptor)
    assert server._descriptors() != before
