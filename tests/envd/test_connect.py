"""Connect messages to envd, by hand."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from e2b import Sandbox

from code_interpreter.envd.process_service import MOST_SILENCE, keepalive_interval
from tests.service import Service


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"path": 3}', b'{"path": "\xff"}', b"[" * 100_000, b"null"]
)
def test_messages_that_cannot_be_read(http: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = http.post("/filesystem.Filesystem/Stat", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_argument"


def test_brackets_in_text_are_no_levels(box: Sandbox) -> None:
    assert box.commands.run(f"echo '{'[' * 10_000}\\\"{{'").stdout == "[" * 10_000 + '\\"{\n'


def test_unknown_fields_are_no_matter(http: httpx.Client) -> None:
    answer = http.post("/filesystem.Filesystem/Stat", json={"path": "/", "new": [1]})
    assert answer.json()["entry"]["path"] == "/"


def test_another_content_type(http: httpx.Client) -> None:
    headers = {"Content-Type": "text/html"}
    assert http.post("/filesystem.Filesystem/Stat", content=b"", headers=headers).status_code == 415


def test_a_method_that_is_not_there(http: httpx.Client) -> None:
    assert http.post("/filesystem.Filesystem/Nothing", json={}).status_code == 404
    assert http.get("/process.Process/List").status_code in (404, 405)


def test_a_stream_by_hand(http: httpx.Client) -> None:
    message = json.dumps({"process": {"cmd": "echo", "args": ["hi"]}, "new": 1}).encode()
    envelope = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"Content-Type": "application/connect+json"}
    answer = http.post("/process.Process/Start", content=envelope, headers=headers)
    events = list(_messages(answer.content))
    assert [set(event.get("event", {})) for _, event in events[:-1]] == [
        {"start"},
        {"data"},
        {"end"},
    ]
    assert events[1][1]["event"]["data"] == {"stdout": base64.b64encode(b"hi\n").decode()}
    assert events[2][1]["event"]["end"] == {"exited": True, "status": "exit status 0"}
    assert events[3] == (2, {})


def _messages(content: bytes) -> Iterator[tuple[int, Any]]:
    while content:
        end = 5 + int.from_bytes(content[1:5], "big")
        yield content[0], json.loads(content[5:end])
        content = content[end:]


def test_keepalives(http: httpx.Client) -> None:
    message = json.dumps({"process": {"cmd": "sleep", "args": ["2.5"]}}).encode()
    envelope = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"Content-Type": "application/connect+json", "Keepalive-Ping-Interval": "1"}
    answer = http.post("/process.Process/Start", content=envelope, headers=headers)
    kinds = [next(iter(event["event"])) for _, event in _messages(answer.content) if event]
    assert kinds == ["start", "keepalive", "keepalive", "end"]


def test_keepalives_of_a_watched_directory(http: httpx.Client, place: str) -> None:
    content = json.dumps({"path": place}).encode()
    message, seen = b"\0" + len(content).to_bytes(4, "big") + content, b""
    headers = {"Content-Type": "application/connect+json", "Keepalive-Ping-Interval": "1"}
    with http.stream(
        "POST", "/filesystem.Filesystem/WatchDir", content=message, headers=headers
    ) as answer:
        for piece in answer.iter_raw():
            seen += piece
            if b"keepalive" in seen:
                break
    assert [next(iter(event)) for _, event in _messages(seen)] == ["start", "keepalive"]


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, MOST_SILENCE),
        ("2", 2.0),
        ("90", MOST_SILENCE),
        ("0", 1.0),
        ("-3", 1.0),
        ("often", MOST_SILENCE),
        ("inf", MOST_SILENCE),
        ("nan", 1.0),
    ],
)
def test_the_interval_of_keepalives(asked: str | None, seconds: float) -> None:
    headers = {} if asked is None else {"keepalive-ping-interval": asked}
    context: Any = SimpleNamespace(request_headers=headers)
    assert keepalive_interval(context) == seconds


def test_control_c_is_looked_at_while_a_command_is_silent(box: Sandbox, service: Service) -> None:
    """E2B's client only does so when something arrives."""
    code = """if True:
        import sys
        from e2b import Sandbox
        command = Sandbox.connect(sys.argv[1]).commands.run("sleep 77", background=True)
        print(command.pid, flush=True)
        command.wait()
    """
    environment = {**os.environ, **service.environment}
    with subprocess.Popen(
        [sys.executable, "-c", code, box.sandbox_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        time.sleep(0.3)  # until it waits
        client.send_signal(signal.SIGINT)
        _, complaint = client.communicate(timeout=20)
    assert complaint.rstrip().endswith("KeyboardInterrupt")
    assert box.commands.kill(pid), "the command has ended with its client"


def test_tags(http: httpx.Client) -> None:
    message = json.dumps({"process": {"cmd": "sleep", "args": ["50"]}, "tag": "named"}).encode()
    envelope = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"Content-Type": "application/connect+json"}
    with http.stream("POST", "/process.Process/Start", content=envelope, headers=headers) as answer:
        next(answer.iter_raw())
        (info,) = http.post("/process.Process/List", json={}).json()["processes"]
        assert info["tag"] == "named"
        signal = {"process": {"tag": "named"}, "signal": "SIGNAL_SIGTERM"}
        assert http.post("/process.Process/SendSignal", json=signal).json() == {}
    nobody = {"process": {"tag": "nobody"}, "signal": "SIGNAL_SIGTERM"}
    answer = http.post("/process.Process/SendSignal", json=nobody)
    assert answer.json() == {"code": "not_found", "message": "process with tag nobody not found"}
    nothing = http.post("/process.Process/SendSignal", json={"process": {"tag": "x"}})
    assert nothing.json()["code"] == "invalid_argument"
