"""Sandboxes through E2B's own clients, against a real host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import (
    AsyncSandbox,
    AuthenticationException,
    NotFoundException,
    Sandbox,
    SandboxInfo,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
)

from tests.host.running import RunningHost, processes_of


@pytest.fixture
def sandbox(host: RunningHost) -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=60, **host.options)
    yield made
    made.kill()


def all_pages(host: RunningHost, **query: Any) -> list[SandboxInfo]:
    paginator = Sandbox.list(query=SandboxQuery(**query), limit=2, **host.options)
    found = []
    while paginator.has_next:
        found += paginator.next_items()
    return found


def ids(infos: list[SandboxInfo]) -> list[str]:
    return [info.sandbox_id for info in infos]


def until_gone(sandbox: Sandbox, deadline: float) -> float:
    """Seconds until the sandbox could not be reached any more."""
    started = time.monotonic()
    while True:
        with contextlib.suppress(httpx.RemoteProtocolError):  # cut while it was being asked
            if not sandbox.is_running():
                return time.monotonic() - started
        assert time.monotonic() - started < deadline
        time.sleep(0.02)


def test_create_get_kill(host: RunningHost) -> None:
    metadata = {"purpose": "test", "a b": "c&d=é"}
    sandbox = Sandbox.create(timeout=120, metadata=metadata, **host.options)
    info = sandbox.get_info()
    assert sandbox.is_running()
    assert (info.sandbox_id, info.metadata) == (sandbox.sandbox_id, metadata)
    assert (info.state, info.template_id, info.name) == (SandboxState.RUNNING, "base", "base")
    assert info.end_at - info.started_at == timedelta(seconds=120)
    assert abs(datetime.now(UTC) - info.started_at) < timedelta(seconds=20)
    assert info.cpu_count >= 1
    assert info.memory_mb > 100
    assert sandbox.kill() is True
    assert sandbox.is_running() is False
    assert sandbox.kill() is False
    with pytest.raises(SandboxNotFoundException):
        sandbox.get_info()
    assert not (host.data / "run" / sandbox.sandbox_id).exists()
    assert not (host.data / "sandboxes" / sandbox.sandbox_id).exists()


def test_ids_have_the_form_that_host_names_need(sandbox: Sandbox) -> None:
    assert sandbox.sandbox_id.startswith("i")
    assert sandbox.sandbox_id.isalnum()
    assert sandbox.sandbox_id.islower()
    assert sandbox.get_host(3000).startswith(f"3000-{sandbox.sandbox_id}.localhost:")


def test_both_template_names_exist(host: RunningHost) -> None:
    with Sandbox.create("code-interpreter-v1", timeout=60, **host.options) as sandbox:
        assert sandbox.get_info().template_id == "code-interpreter-v1"


def test_wrong_key_and_unknown_things(host: RunningHost) -> None:
    with pytest.raises(AuthenticationException):
        Sandbox.create(**{**host.options, "api_key": "e2b_" + "0" * 40})
    with pytest.raises(NotFoundException):
        Sandbox.connect("i" + "0" * 20, **host.options)
    with pytest.raises(Exception, match="no-such-template"):
        Sandbox.create("no-such-template", **host.options)


def test_a_sandbox_ends_within_a_second_of_its_time_out(host: RunningHost) -> None:
    sandbox = Sandbox.create(timeout=1, **host.options)
    end = sandbox.get_info().end_at
    until_gone(sandbox, 5)
    assert (datetime.now(UTC) - end).total_seconds() < 1
    assert sandbox.kill() is False


def test_set_timeout_moves_the_end_both_ways(sandbox: Sandbox) -> None:
    for seconds in (600, 20):
        sandbox.set_timeout(seconds)
        left = sandbox.get_info().end_at - datetime.now(UTC)
        assert abs(left - timedelta(seconds=seconds)) < timedelta(seconds=2)
    sandbox.set_timeout(0)
    assert until_gone(sandbox, 5) < 1


def test_connect_only_extends(host: RunningHost, sandbox: Sandbox) -> None:
    before = sandbox.get_info().end_at
    again = Sandbox.connect(sandbox.sandbox_id, timeout=5, **host.options)
    assert again.get_info().end_at == before
    Sandbox.connect(sandbox.sandbox_id, timeout=500, **host.options)
    assert sandbox.get_info().end_at > before + timedelta(seconds=300)


def test_pause_and_connect(host: RunningHost, sandbox: Sandbox) -> None:
    assert sandbox.pause() is True
    assert sandbox.is_running() is False
    assert sandbox.get_info().state is SandboxState.PAUSED
    assert sandbox.pause() is False
    again = Sandbox.connect(sandbox.sandbox_id, timeout=60, **host.options)
    assert again.is_running()
    assert sandbox.is_running()
    assert again.get_info().state is SandboxState.RUNNING


def test_pause_does_not_use_up_the_time_out(host: RunningHost) -> None:
    sandbox = Sandbox.create(timeout=1, **host.options)
    sandbox.pause()
    time.sleep(1.5)
    assert sandbox.get_info().state is SandboxState.PAUSED
    again = Sandbox.connect(sandbox.sandbox_id, timeout=60, **host.options)
    assert again.is_running()
    again.kill()


def test_time_out_may_pause_and_traffic_may_wake(host: RunningHost) -> None:
    lifecycle: Any = {"on_timeout": "pause", "auto_resume": True}
    sandbox = Sandbox.create(timeout=1, lifecycle=lifecycle, **host.options)
    deadline = time.monotonic() + 5
    while sandbox.get_info().state is SandboxState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sandbox.is_running()  # this very request has woken it
    assert sandbox.get_info().state is SandboxState.RUNNING
    assert sandbox.kill()


def test_a_paused_sandbox_can_be_killed(sandbox: Sandbox) -> None:
    sandbox.pause()
    assert sandbox.kill() is True
    assert sandbox.kill() is False


def test_list(host: RunningHost) -> None:
    mark = {"mark": "list & test"}
    made = [
        Sandbox.create(timeout=60, metadata={**mark, "n": str(n)}, **host.options) for n in range(3)
    ]
    newest_first = [sandbox.sandbox_id for sandbox in reversed(made)]
    assert ids(all_pages(host, metadata=mark)) == newest_first
    assert ids(all_pages(host, metadata={**mark, "n": "1"})) == [made[1].sandbox_id]
    assert all_pages(host, metadata={**mark, "n": "9"}) == []
    made[0].pause()
    assert ids(all_pages(host, metadata=mark, state=[SandboxState.PAUSED])) == newest_first[2:]
    assert ids(all_pages(host, metadata=mark, state=[SandboxState.RUNNING])) == newest_first[:2]
    for sandbox in made:
        sandbox.kill()
    assert all_pages(host, metadata=mark) == []


def test_ten_kills_at_once_end_it_once(host: RunningHost) -> None:
    async def kill_ten() -> list[bool]:
        sandbox = await AsyncSandbox.create(timeout=60, **host.options)
        return await asyncio.gather(
            *(AsyncSandbox.kill(sandbox.sandbox_id, **host.options) for _ in range(10))
        )

    answers = asyncio.run(kill_ten())
    assert sorted(answers) == [False] * 9 + [True]


def test_changes_of_one_sandbox_at_once_leave_it_whole(host: RunningHost) -> None:
    async def everything() -> None:
        sandbox = await AsyncSandbox.create(timeout=60, **host.options)
        changes: list[Coroutine[Any, Any, object]]
        changes = [sandbox.set_timeout(50 + n) for n in range(3)]
        changes += [sandbox.pause() for _ in range(3)]
        changes += [sandbox.connect(timeout=60) for _ in range(3)]
        await asyncio.gather(*changes, return_exceptions=True)
        again = await sandbox.connect(timeout=60)
        assert await again.is_running()
        assert await again.kill()

    asyncio.run(everything())


def test_death_is_noticed(host: RunningHost) -> None:
    sandbox = Sandbox.create(timeout=60, **host.options)
    root = int((host.data / "run" / sandbox.sandbox_id / "pid").read_text().split()[0])
    os.kill(root, signal.SIGKILL)
    assert until_gone(sandbox, 5) < 2
    place = host.data / "sandboxes" / sandbox.sandbox_id
    deadline = time.monotonic() + 10
    while place.exists() or processes_of(place):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_idempotency_key(host: RunningHost, http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "create-once-1"}
    body = {"templateID": "base", "timeout": 60}
    first, second = (http.post("/v2/sandboxes", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    other = http.post("/v2/sandboxes", json={**body, "timeout": 61}, headers=headers)
    assert (other.status_code, other.json()["error_code"]) == (422, "idempotency_request_mismatch")
    name = first.json()["sandboxID"]
    assert http.delete(f"/sandboxes/{name}").status_code == 204
    late = http.post("/v2/sandboxes", json=body, headers=headers)
    assert (late.status_code, late.json()["error_code"]) == (409, "idempotency_outcome_unknown")


def test_old_clients_paths(http: httpx.Client) -> None:
    made = http.post("/sandboxes", json={"templateID": "base", "secure": True})
    assert made.status_code == 201
    name = made.json()["sandboxID"]
    detail = http.get(f"/sandboxes/{name}-{made.json()['clientID']}").json()
    lasting = datetime.fromisoformat(detail["endAt"]) - datetime.fromisoformat(detail["startedAt"])
    assert lasting == timedelta(seconds=15)
    assert name in [item["sandboxID"] for item in http.get("/sandboxes").json()]
    assert http.post(f"/sandboxes/{name}/refreshes", json={"duration": 100}).status_code == 204
    assert http.get(f"/sandboxes/{name}").json()["endAt"] > detail["endAt"]
    assert http.post(f"/sandboxes/{name}/resume", json={}).status_code == 409
    assert http.post(f"/sandboxes/{name}/connect", json={"timeout": 5}).status_code == 200
    http.post(f"/sandboxes/{name}/pause")
    assert http.post(f"/sandboxes/{name}/timeout", json={"timeout": 5}).status_code == 409
    assert http.post(f"/sandboxes/{name}/resume", json={"timeout": 50}).status_code == 201
    http.post(f"/sandboxes/{name}/pause")
    assert http.post(f"/v2/sandboxes/{name}/connect", json={}).status_code == 201
    assert http.delete(f"/sandboxes/{name}").status_code == 204


def test_logs_are_what_the_cli_reads(http: httpx.Client, sandbox: Sandbox) -> None:
    logs = http.get(f"/sandboxes/{sandbox.sandbox_id}/logs").json()
    line = json.loads(logs["logs"][0]["line"])
    assert (line["level"], line["message"]) == ("info", "sandbox started")
    assert logs["logEntries"][0]["fields"] == {"template": "base"}
    after = int(time.time() * 1000) + 1000
    assert http.get(f"/sandboxes/{sandbox.sandbox_id}/logs?start={after}").json()["logs"] == []


def test_events_outlive_their_sandbox(host: RunningHost, http: httpx.Client) -> None:
    sandbox = Sandbox.create(timeout=60, metadata={"a": "b"}, **host.options)
    sandbox.set_timeout(90)
    sandbox.pause()
    sandbox.connect(timeout=60)
    sandbox.kill()
    path = f"/events/sandboxes/{sandbox.sandbox_id}"
    events = http.get(path).json()
    assert [event["type"].removeprefix("sandbox.lifecycle.") for event in events] == [
        "killed",
        "resumed",
        "paused",
        "updated",
        "created",
    ]
    assert len({event["id"] for event in events}) == len(events)
    created, updated = events[-1], events[-2]
    assert (created["version"], created["sandboxTemplateId"]) == ("v1", "base")
    assert created["eventData"] == {"sandbox_metadata": {"a": "b"}}
    lasts = datetime.fromisoformat(updated["eventData"]["set_timeout"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < lasts <= timedelta(seconds=90)
    assert http.get(path, params={"orderAsc": True, "limit": 2, "offset": 1}).json() == [
        updated,
        events[2],
    ]
    wanted = {"types": ["sandbox.lifecycle.created", "sandbox.lifecycle.killed"]}
    assert http.get(path, params=wanted).json() == [events[0], created]
    assert events[0] in http.get("/events/sandboxes", params={"limit": 100}).json()
    assert http.get("/events/sandboxes/inever").json() == []
    assert http.get(path, params={"limit": 101}).status_code == 400
    assert http.get("/events/webhooks").status_code == 501


def test_private_traffic_gets_a_token(host: RunningHost) -> None:
    network: Any = {"allow_public_traffic": False}
    with Sandbox.create(timeout=60, network=network, **host.options) as sandbox:
        assert sandbox.traffic_access_token


def test_a_client_that_goes_away_leaves_no_sandbox(host: RunningHost, http: httpx.Client) -> None:
    before = len(http.get("/v2/sandboxes").json())
    for delay in (0.001, 0.02, 0.1):
        with pytest.raises(httpx.ReadTimeout), host.http() as impatient:
            impatient.post(
                "/v2/sandboxes", json={"templateID": "base"}, timeout=httpx.Timeout(5, read=delay)
            )
    deadline = time.monotonic() + 10
    while len(list((host.data / "run").iterdir())) > before + 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(http.get("/v2/sandboxes").json()) == before


def is_there(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def start_family(sandbox: Sandbox) -> list[int]:
    """Processes that have gone from their parent, their session and their group."""
    script = "setsid sh -c 'sleep 500 & echo $! >> pids; sleep 500' & echo $! >> pids; sleep 500"
    sandbox.commands.run(f"echo $$ > pids; {script}", background=True)
    deadline = time.monotonic() + 5
    while True:
        with contextlib.suppress(NotFoundException):
            pids = sandbox.files.read("pids").split()
            if len(pids) == 3:
                return [int(pid) for pid in pids]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_kill_ends_every_process(host: RunningHost) -> None:
    sandbox = Sandbox.create(timeout=60, **host.options)
    family = start_family(sandbox)
    assert all(map(is_there, family))
    sandbox.kill()
    assert not any(map(is_there, family))


def test_so_does_the_death_of_the_first_process(host: RunningHost) -> None:
    sandbox = Sandbox.create(timeout=60, **host.options)
    family = start_family(sandbox)
    root = int((host.data / "run" / sandbox.sandbox_id / "pid").read_text().split()[0])
    os.kill(root, signal.SIGKILL)
    until_gone(sandbox, 5)
    deadline = time.monotonic() + 5
    while any(map(is_there, family)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_variables_reach_commands_and_not_the_log(host: RunningHost) -> None:
    envs = {"TOKEN": "a 'quoted'\nsecret-37"}
    with Sandbox.create(timeout=60, envs=envs, **host.options) as sandbox:
        assert sandbox.commands.run('echo "$TOKEN"').stdout == envs["TOKEN"] + "\n"
        assert sandbox.commands.run("echo $CODE_INTERPRETER_DATA_DIR").stdout == "\n"
    assert "secret-37" not in host.stderr
    assert host.key not in host.stderr


def test_a_paused_sandbox_stands_still(host: RunningHost, sandbox: Sandbox) -> None:
    count = "i=0; while true; do i=$((i+1)); echo $i > count; sleep 0.05; done"
    command = sandbox.commands.run(count, background=True)
    time.sleep(0.3)
    sandbox.pause()
    file = host.data / "sandboxes" / sandbox.sandbox_id / "home" / "count"
    before = file.read_text()
    time.sleep(0.3)
    assert file.read_text() == before
    again = Sandbox.connect(sandbox.sandbox_id, **host.options)
    time.sleep(0.3)
    assert int(again.files.read("count")) > int(before)
    assert command.pid in [process.pid for process in again.commands.list()]


def test_signed_urls_find_their_sandbox(host: RunningHost, sandbox: Sandbox) -> None:
    sandbox.files.write("hello.txt", "hello")
    other = Sandbox.create(timeout=60, **host.options)
    other.files.write("hello.txt", "other")
    for made, text in ((sandbox, "hello"), (other, "other")):
        response = httpx.get(made.download_url("hello.txt"), trust_env=False)
        assert (response.status_code, response.text) == (200, text)
    other.kill()


def test_metrics(http: httpx.Client, sandbox: Sandbox) -> None:
    (sample,) = sandbox.get_metrics()
    assert sample.mem_total > sample.mem_used > 0
    assert sandbox.get_metrics(end=datetime.now() - timedelta(hours=1)) == []
    several = http.get(f"/sandboxes/metrics?sandbox_ids={sandbox.sandbox_id},i0")
    assert list(several.json()["sandboxes"]) == [sandbox.sandbox_id]
