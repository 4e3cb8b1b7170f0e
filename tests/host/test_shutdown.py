"""A host that stops: what it says meanwhile, and that a stop that breaks off leaves nothing."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from e2b import Sandbox, SandboxException, ServiceBusyException

from tests.host.running import RunningHost
from tests.host.test_restart import check_nothing_left


def make(host: RunningHost, count: int) -> list[Sandbox]:
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda _: Sandbox.create(timeout=100, **host.options), range(count)))


@contextmanager
def held_up(host: RunningHost) -> Iterator[None]:
    """A stop waits some seconds for a request that is under way: this one sends no body."""
    address = urlsplit(host.url)
    assert address.hostname
    assert address.port
    head = f"POST /v2/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {host.key}\r\n"
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n".encode()
        )
        time.sleep(0.1)
        yield


def test_while_it_stops_it_says_so(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    options, url = host.options, host.url
    (sandbox,) = make(host, 1)
    with httpx.Client(base_url=url, timeout=10) as http, held_up(host):
        host.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while (answer := http.get("/health")).status_code == 204:
            assert time.monotonic() < deadline, "it goes on as if nobody had stopped it"
            time.sleep(0.01)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json() == {"code": 503, "message": "This host is stopping"}
        with pytest.raises(ServiceBusyException, match="stopping"):
            Sandbox.create(**options)
        with pytest.raises(SandboxException):
            sandbox.commands.run("true")
        assert not (data / "host.json").exists()  # whoever starts another one waits for the end
    assert host.process.wait(20) == 0
    assert "Traceback" not in host.stderr
    check_nothing_left(data)


def test_a_stop_that_breaks_off_is_finished_by_the_next_host(data: Path) -> None:
    host = RunningHost(data).wait_until_ready()
    made = {sandbox.sandbox_id for sandbox in make(host, 4)}
    host.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    host.stop(signal.SIGKILL)

    host = RunningHost(data).wait_until_ready()
    with host.http() as http:
        live = {item["sandboxID"] for item in http.get("/v2/sandboxes").json()}
        events = http.get("/events/sandboxes?limit=100").json()
    ended = {event["sandboxId"] for event in events if event["type"].endswith("killed")}
    assert (live | ended, live & ended) == (made, set())
    for sandbox_id in live:
        assert Sandbox.connect(sandbox_id, **host.options).is_running()
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        host.process.send_signal(number)  # more than one says no more than the first
        time.sleep(0.01)
    assert host.process.wait(20) == 0
    assert "Traceback" not in host.stderr
    check_nothing_left(data)
