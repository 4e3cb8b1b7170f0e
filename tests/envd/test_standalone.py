"""envd by itself, without isolation: ``python -m code_interpreter.envd``."""

from __future__ import annotations

import array
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from code_interpreter.guest.config import GuestConfig

DEADLINE = 20.0


@dataclass
class Envd:
    process: subprocess.Popen[bytes]
    http: httpx.Client
    home: Path
    ports: Path
    log: Path

    def call(self, method: str, **message: Any) -> Any:
        return self.http.post(f"/{method}", json=message).json()

    def run(self, user: str | None = None, **process: Any) -> list[dict[str, Any]]:
        """The events of a command, or one with the error."""
        message = json.dumps({"process": process}).encode()
        answer = self.http.post(
            "/process.Process/Start",
            content=b"\0" + len(message).to_bytes(4, "big") + message,
            headers={"Content-Type": "application/connect+json"},
            auth=httpx.USE_CLIENT_DEFAULT if user is None else (user, ""),
        )
        content, events = answer.content, []
        while content:
            end = 5 + int.from_bytes(content[1:5], "big")
            events.append(json.loads(content[5:end]))
            content = content[end:]
        return [event.get("event", event) for event in events]


@pytest.fixture(scope="module")
def envd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envd]:
    top = tmp_path_factory.mktemp("envd")
    (top / "home").mkdir()
    listen, ports, log = top / "envd.sock", top / "ports.sock", top / "log"
    config = GuestConfig(
        isolated=False,
        home=str(top / "home"),
        state_directory=str(top / "state"),
        listen_path=str(listen),
        ports_path=str(ports),
    )
    (top / "state").mkdir(0o700)
    command = [sys.executable, "-m", "code_interpreter.envd", "--config", config.dump()]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    _wait(listen, log)
    transport = httpx.HTTPTransport(uds=str(listen))
    with httpx.Client(transport=transport, base_url="http://envd", timeout=30) as client:
        yield Envd(process, client, top / "home", ports, log)
    process.terminate()
    assert process.wait(DEADLINE) == 0 or process.returncode == -signal.SIGTERM


def _wait(path: Path, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect(str(path))
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            else:
                return


def test_health(envd: Envd) -> None:
    assert envd.http.get("/health").status_code == 204


def test_a_command(envd: Envd) -> None:
    events = envd.run(cmd="/bin/sh", args=["-c", "pwd; echo $HOME; exit 4"])
    assert set(events[0]["start"]) == {"pid"}
    assert events[-2]["end"] == {
        "exitCode": 4,
        "exited": True,
        "status": "exit status 4",
        "error": "exit status 4",
    }
    assert len(events) == 4


def test_a_program_that_is_not_there(envd: Envd) -> None:
    (event,) = envd.run(cmd="/no/program")
    assert event["error"] == {
        "code": "invalid_argument",
        "message": "program '/no/program': no such file or directory",
    }
    (event,) = envd.run(cmd="")
    assert event["error"]["message"] == "process.cmd is empty; name a program"


def test_there_is_one_account(envd: Envd) -> None:
    for user in ("user", _own_name()):
        assert "end" in envd.run(user=user, cmd="true")[-2]
    (event,) = envd.run(user="somebody", cmd="true")
    assert event["error"] == {"code": "unauthenticated", "message": "invalid username: 'somebody'"}


def _own_name() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def test_an_authorization_that_cannot_be_read(envd: Envd) -> None:
    headers = {"Authorization": "Basic !"}
    answer = envd.http.post("/filesystem.Filesystem/Stat", json={"path": "/"}, headers=headers)
    assert answer.json()["code"] == "unauthenticated"
    headers = {"Authorization": "Bearer of-somebody-else"}
    answer = envd.http.post("/filesystem.Filesystem/Stat", json={"path": "/"}, headers=headers)
    assert answer.status_code == 200


def test_files(envd: Envd) -> None:
    envd.http.post("/files", params={"path": "a/b"}, files={"file": b"content"})
    assert (envd.home / "a/b").read_text() == "content"
    watcher = envd.call("filesystem.Filesystem/CreateWatcher", path="a")["watcherId"]
    envd.http.post("/files", params={"path": "a/c"}, files={"file": b"x"})
    events = envd.call("filesystem.Filesystem/GetWatcherEvents", watcherId=watcher)["events"]
    assert [event["type"].removeprefix("EVENT_TYPE_") for event in events] == [
        "CREATE",
        "CHMOD",
        "WRITE",
    ]


def test_what_the_host_tells_it(envd: Envd) -> None:
    before = envd.http.get("/envs").json()
    body = {"envVars": {"TOLD": "yes"}, "sandboxId": "i1", "defaultWorkdir": "/tmp"}
    assert envd.http.post("/init", json=body).status_code == 204
    assert before == {}
    assert envd.http.get("/envs").json() == {"TOLD": "yes"}
    script = "test $TOLD = yes && test $E2B_SANDBOX_ID = i1 && test $PWD = /tmp"
    assert envd.run(cmd="sh", args=["-c", script])[-2]["end"]["status"] == "exit status 0"
    again = {"envVars": {}, "defaultWorkdir": str(envd.home)}
    assert envd.http.post("/init", json=again).status_code == 204
    assert envd.http.get("/envs").json() == {}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "Invalid JSON"),
        ('{"envVars": {"A": 1}}', "envVars.A"),
        ('{"envVars": {"A=B": "x"}}', "'A=B' is no name of a variable"),
        ('{"envVars": {"A": "\\u0000"}}', "the value of 'A' holds a NUL"),
    ],
)
def test_what_the_host_may_not_tell_it(envd: Envd, body: str, words: str) -> None:
    answer = envd.http.post("/init", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["message"]


def test_ports(envd: Envd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened = _open_port(envd, server.getsockname()[1])
        assert opened is not None
        peer, _ = server.accept()
        with peer, socket.socket(fileno=opened) as ours:
            ours.sendall(b"hello")
            assert peer.recv(5) == b"hello"
        closed = server.getsockname()[1]
    assert _open_port(envd, closed) is None


def _open_port(envd: Envd, port: int) -> int | None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(envd.ports))
        line.sendall(f"{port}\n".encode())
        answer, rights, _, _ = line.recvmsg(1, socket.CMSG_SPACE(4))
        if answer == b"-":
            return None
        descriptors = array.array("i")
        descriptors.frombytes(rights[0][2])
        return descriptors[0]


def test_nothing_secret_in_the_log(envd: Envd) -> None:
    envd.run(cmd="sh", args=["-c", "true"], envs={"SECRET": "canary-value"})
    envd.http.get("/files", params={"path": "x", "signature": "canary-value"})
    envd.http.post("/init", content='{"accessToken": "canary-value", "envVars": 1}')
    envd.http.post("/process.Process/Start", content=b"canary-value")
    assert "canary" not in envd.log.read_text()


def test_where_it_listens(envd: Envd) -> None:
    assert (envd.ports.stat().st_mode & 0o777) == 0o600
    assert [path.name for path in (envd.home.parent / "state").iterdir()] == ["envd.json"]
    assert ((envd.home.parent / "state/envd.json").stat().st_mode & 0o777) == 0o600
