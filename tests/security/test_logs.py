"""Names, metadata and messages that would write lines of their own into a log."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from e2b.exceptions import AuthenticationException, SandboxException

from code_interpreter import Sandbox
from tests.host.running import RunningHost, data_directory
from tests.service import shared_templates

pytestmark = pytest.mark.security
FORGED = "x\r\nINFO forged line\n\x1b[31mred\x1b[0m\x00\u2028\u202e" + "long" * 5000
LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) |gateway: |init: |envd: ")
LONGEST = 4000


@pytest.fixture(scope="module")
def host(service: object) -> Iterator[RunningHost]:
    """Asking for the shared host makes sure that the template is there."""
    environment = {**shared_templates(), "CODE_INTERPRETER_LOG_LEVEL": "debug"}
    with data_directory() as data:
        running = RunningHost(data, "--runtime", "namespaces", env=environment)
        try:
            yield running.wait_until_ready()
        finally:
            running.stop()


def test_no_line_of_a_log_is_somebody_elses(host: RunningHost) -> None:
    with Sandbox.create(timeout=120, metadata={"a": FORGED}, **host.options) as sandbox:
        _say_odd_things(host, sandbox)
        logs = host.stderr, *(path.read_text() for path in host.data.rglob("*.log"))
    lines = [line for log in logs for line in log.split("\n") if line]
    assert len(lines) >= 3
    for line in lines:
        assert "forged line" not in line or LINE.match(line), line[:200]
        assert not line.startswith("INFO forged"), line[:200]
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u202e]", line), line[:200]
        assert len(line) < LONGEST, line[:200]


def _say_odd_things(host: RunningHost, sandbox: Sandbox) -> None:
    key = {"X-API-KEY": host.key}
    gateway = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49999"}
    odd = quote(FORGED[:500])
    with httpx.Client(base_url=host.url, trust_env=False, timeout=30) as http:
        for method in ("GET", "POST", "DELETE"):
            http.request(method, f"/sandboxes/{odd}", headers=key)
            http.request(method, f"/templates/aliases/{odd}", headers=key)
            http.request(method, f"/contexts/{odd}", headers=gateway)
            http.request(method, f"/{odd}", headers={**gateway, "E2b-Sandbox-Port": "49983"})
        for name in ("templateID", "alias"):
            http.post("/sandboxes", headers=key, json={name: FORGED, "templateID": FORGED})
        http.post("/execute", headers=gateway, json={"code": "1", "language": FORGED[:300]})
        http.post("/contexts", headers=gateway, json={"cwd": FORGED[:300]})
    names = (FORGED, "short\nINFO forged")
    forge = f"""
kernel = get_ipython().kernel
for name in {names!r}:
    kernel.session.send(kernel.iopub_socket, name, {{"data": 5}}, parent=kernel.get_parent())
"""
    sandbox.run_code(forge)
    with contextlib.suppress(SandboxException):
        sandbox.files.write(f"/tmp/{FORGED[:100]}".replace("\0", ""), "x")
    with contextlib.suppress(SandboxException, AuthenticationException):
        sandbox.commands.run("true", user=FORGED[:50].replace("\0", ""))
    port = httpx.URL(host.url).port or 0
    for raw in (b"GET /\x1b[31m HTTP/1.1\r\n\r\n", b"\r\nINFO forged\r\n\r\n", os.urandom(200)):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(raw + b"\r\n\r\n")
            with contextlib.suppress(OSError):
                connection.recv(1000)
