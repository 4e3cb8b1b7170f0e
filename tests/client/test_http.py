"""Servers that open no WebSocket: E2B's, seen from here."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest
from e2b import NotFoundException, TimeoutException

from code_interpreter import (
    Context,
    ExecutionStatus,
    ExecutionTimeoutException,
    NeedsWebSocketException,
    SandboxKilledException,
)
from tests.client.peer import SMALL, Peer, program, result, stdout


@pytest.fixture(params=[400, 403, 404, 405, 426, 501])
def http_peer(peer: Peer, request: pytest.FixtureRequest) -> Peer:
    peer.websocket_status = request.param
    return peer


@pytest.fixture
def old_peer(peer: Peer) -> Peer:
    peer.websocket_status = 403
    return peer


def test_a_cell_runs_over_http(http_peer: Peer) -> None:
    heard: list[Any] = []
    sandbox = http_peer.sandbox()
    execution = sandbox.run_code(SMALL, envs={"A": "b"}, on_stdout=heard.append)
    assert execution.text == "2"
    assert execution.logs.stdout == ["hello\n"]
    assert [message.line for message in heard] == ["hello\n"]
    assert execution.status is None
    assert execution.receipt is None
    (request,) = http_peer.requests
    body = {"code": SMALL, "context_id": None, "language": None, "env_vars": {"A": "b"}}
    assert request == ("POST", "/execute", body)
    assert http_peer.headers["X-Access-Token"] == "access"


async def test_a_cell_runs_over_http_for_asyncio(http_peer: Peer) -> None:
    execution = await http_peer.async_sandbox().run_code(SMALL)
    assert execution.text == "2"


def test_that_there_is_no_websocket_is_remembered(old_peer: Peer) -> None:
    sandbox = old_peer.sandbox()
    sandbox.run_code(SMALL)
    old_peer.websocket_status = None
    sandbox.run_code(SMALL)
    assert old_peer.opened == 0


def test_lines_are_ended_by_line_feeds_only(old_peer: Peer) -> None:
    text = "a\u2028b\u0085c\x0bd"
    assert old_peer.sandbox().run_code(program(stdout(text), ["end"])).logs.stdout == [text]


@pytest.mark.parametrize("steps", [[["sleep", 3]], [stdout("a"), ["sleep", 3]]])
def test_a_time_out_raises_after_its_length(old_peer: Peer, steps: list[Any]) -> None:
    began = time.monotonic()
    with pytest.raises(ExecutionTimeoutException, match="Execution timed out"):
        old_peer.sandbox().run_code(program(*steps), timeout=0.6)
    assert 0.55 < time.monotonic() - began < 0.9


@pytest.mark.parametrize("steps", [[["sleep", 3]], [stdout("a"), ["sleep", 3]]])
async def test_a_time_out_raises_after_its_length_for_asyncio(
    old_peer: Peer, steps: list[Any]
) -> None:
    began = time.monotonic()
    with pytest.raises(ExecutionTimeoutException):
        await old_peer.async_sandbox().run_code(program(*steps), timeout=0.6)
    assert 0.55 < time.monotonic() - began < 0.9


def test_a_connection_that_breaks_is_passed_on(old_peer: Peer) -> None:
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        old_peer.sandbox().run_code(program(stdout("a"), ["drop"]))


def test_a_sandbox_that_is_killed_meanwhile_is_named(old_peer: Peer) -> None:
    def kill() -> None:
        time.sleep(0.2)
        old_peer.gone = True

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SandboxKilledException):
        old_peer.sandbox().run_code(program(stdout("a"), ["sleep", 0.4], ["drop"]))
    killer.join()


def test_what_needs_a_websocket_says_so(old_peer: Peer) -> None:
    sandbox = old_peer.sandbox()
    with pytest.raises(NeedsWebSocketException, match="background=True needs a WebSocket"):
        sandbox.run_code(SMALL, background=True)
    with pytest.raises(NeedsWebSocketException, match="stream_code"):
        sandbox.stream_code(SMALL)
    with pytest.raises(NeedsWebSocketException, match="attach_execution"):
        sandbox.attach_execution("a")
    with pytest.raises(NeedsWebSocketException, match="on_input"):
        sandbox.run_code(SMALL, on_input=input)


def test_a_server_that_is_not_there_raises_what_the_sdk_raises(peer: Peer) -> None:
    sandbox = peer.sandbox()
    peer.url = "http://127.0.0.1:9"
    unreachable = peer.sandbox()
    with pytest.raises(httpx.ConnectError):
        unreachable.run_code(SMALL)
    assert sandbox.run_code(SMALL).text == "2"


def test_a_passing_trouble_is_not_taken_for_an_old_server(peer: Peer) -> None:
    sandbox = peer.sandbox()
    peer.websocket_status = 503
    assert sandbox.run_code(program(result("1"), ["end"])).text == "1"
    peer.websocket_status = None
    assert sandbox.run_code(SMALL).status is ExecutionStatus.OK
    assert peer.opened == 1


def test_contexts(peer: Peer) -> None:
    sandbox = peer.sandbox()
    context = sandbox.create_code_context(cwd="/tmp", language="r")
    assert context == Context("c2", "r", "/tmp")
    (first,) = sandbox.list_code_contexts()
    assert first.id == "c1"
    sandbox.restart_code_context(first)
    sandbox.remove_code_context("c1")
    with pytest.raises(NotFoundException, match="Context c2 not found"):
        sandbox.remove_code_context(context)
    assert [(method, path) for method, path, _ in peer.requests] == [
        ("POST", "/contexts"),
        ("GET", "/contexts"),
        ("POST", "/contexts/c1/restart"),
        ("DELETE", "/contexts/c1"),
        ("DELETE", "/contexts/c2"),
    ]
    peer.gone = True
    with pytest.raises(TimeoutException, match="was not found"):
        sandbox.list_code_contexts()


async def test_contexts_for_asyncio(peer: Peer) -> None:
    sandbox = peer.async_sandbox()
    assert (await sandbox.create_code_context(language="bash")).language == "bash"
    (first,) = await sandbox.list_code_contexts()
    await sandbox.restart_code_context(first)
    await sandbox.remove_code_context(first)
    with pytest.raises(NotFoundException):
        await sandbox.restart_code_context("c9")
