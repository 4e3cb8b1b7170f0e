"""Limits of one sandbox: given by our client, by E2B's, by plain REST; told truly afterwards."""

from __future__ import annotations

from typing import Any

import e2b
import httpx
import pytest

from code_interpreter import (
    AsyncSandbox,
    Cause,
    ExecutionStatus,
    InvalidArgumentException,
    KernelState,
    Sandbox,
    SandboxException,
)
from code_interpreter.host.disks import DiskImages
from tests.service import Service


@pytest.fixture
def limiting(service: Service) -> Service:
    """A host that can limit disk space."""
    problem = DiskImages(service.data).problem()
    if problem is not None:
        pytest.skip(f"disk space cannot be limited here: {problem}")
    return service


def _disk_mb(sandbox: Sandbox | e2b.Sandbox) -> float:
    output = sandbox.commands.run("df --output=avail -B 1M / | tail -1").stdout
    return float(output)


def _memory_mb(service: Service, sandbox_id: str) -> int:
    """What `GET /sandboxes/{id}` says."""
    headers = {"X-API-KEY": service.key}
    answer = httpx.get(f"{service.url}/sandboxes/{sandbox_id}", headers=headers, timeout=30)
    return int(answer.json()["memoryMB"])


def test_our_client_gives_limits(limiting: Service) -> None:
    options: Any = limiting.options
    with Sandbox.create(
        timeout=60, cpu_count=0.5, memory_mb=600, disk_mb=300, **options
    ) as sandbox:
        info = sandbox.get_info()
        assert (info.cpu_count, info.memory_mb) == (0.5, 600)
        assert 296 < _disk_mb(sandbox) < 304
        metrics = sandbox.get_metrics()[0]
        assert metrics.mem_total == 600 * 1024 * 1024
        assert sandbox.run_code("6 * 7").text == "42"
        sent = sandbox.connection_config.headers
        assert not [name for name in sent if name.startswith("X-Sandbox-")]


async def test_the_asynchronous_client_gives_limits(service: Service) -> None:
    sandbox = await AsyncSandbox.create(timeout=60, memory_mb=500, **service.options)
    try:
        info = await sandbox.get_info()
        assert info.memory_mb == 500
        assert info.cpu_count == 2
        assert (await sandbox.run_code("6 * 7")).text == "42"
    finally:
        await sandbox.kill()


def test_e2bs_client_gives_them_as_headers(limiting: Service) -> None:
    headers = {"X-Sandbox-Memory-MB": "400", "X-Sandbox-Disk-Size-MB": "200"}
    sandbox = e2b.Sandbox.create(timeout=60, api_headers=headers, **limiting.options)
    try:
        assert sandbox.get_info().memory_mb == 400
        assert 197 < _disk_mb(sandbox) < 203
    finally:
        sandbox.kill()


def test_plain_rest_gives_them_in_the_body(limiting: Service) -> None:
    headers = {"X-API-KEY": limiting.key}
    body = {"templateID": "base", "timeout": 60, "memoryMB": 300, "cpuCount": 1, "diskSizeMB": 100}
    with httpx.Client(base_url=limiting.url, headers=headers, timeout=60) as http:
        made = http.post("/v2/sandboxes", json=body)
        assert made.status_code == 201, made.text
        path = f"/sandboxes/{made.json()['sandboxID']}"
        try:
            told = http.get(path).json()
            assert {name: told[name] for name in ("memoryMB", "cpuCount", "diskSizeMB")} == {
                "memoryMB": 300,
                "cpuCount": 1,
                "diskSizeMB": 100,
            }
        finally:
            http.delete(path)


def test_a_cell_that_wants_more_memory_is_lost_and_says_so(service: Service) -> None:
    """In words for people, as fields for programs, and the next cell runs."""
    options: Any = service.options
    try:
        sandbox = Sandbox.create(timeout=60, memory_mb=300, **options)
    except SandboxException as refused:
        pytest.skip(f"memory cannot be limited here: {refused}")
    with sandbox:
        sandbox.run_code("kept = 1")
        execution = sandbox.run_code("print('begun', flush=True)\nfull = bytearray(10**9)")
        assert execution.error is not None
        assert execution.error.name == "MemoryLimitExceeded"
        assert "limit is 300 MiB" in execution.error.value
        assert execution.logs.stdout == ["begun\n"], "what came before is not lost"
        assert (execution.status, execution.kernel_state) == (
            ExecutionStatus.LOST,
            KernelState.LOST,
        )
        assert (execution.cause, execution.signal) == (Cause.OOM, 9)
        assert execution.receipt is not None
        assert sandbox.run_code("'kept' in globals()", timeout=30).text == "False"


def test_without_limits_the_hosts_defaults_are_told(service: Service) -> None:
    sandbox = e2b.Sandbox.create(timeout=60, **service.options)
    try:
        assert sandbox.get_info().memory_mb == _memory_mb(service, sandbox.sandbox_id) == 2048
        assert sandbox.get_info().cpu_count == 2
    finally:
        sandbox.kill()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memory_mb": 10**9}, "memoryMB must be from 128 to "),
        ({"memory_mb": 1}, "memoryMB must be from 128 to "),
        ({"cpu_count": 1000}, "cpuCount must be from 0.1 to "),
        ({"disk_mb": 1}, "diskSizeMB must be from 64 to "),
    ],
)
def test_what_the_host_does_not_allow(service: Service, limits: dict[str, Any], words: str) -> None:
    with pytest.raises(SandboxException, match=words) as caught:
        Sandbox.create(**limits, **service.options)
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    "limits",
    [{"memory_mb": "2GB"}, {"memory_mb": True}, {"disk_mb": -1}, {"cpu_count": float("nan")}],
)
async def test_what_cannot_be_a_limit_is_not_sent(limits: dict[str, Any]) -> None:
    (name,) = limits
    with pytest.raises(InvalidArgumentException, match=name):
        Sandbox.create(api_key="e2b_0", api_url="http://127.0.0.1:1", **limits)
    with pytest.raises(InvalidArgumentException, match=name):
        await AsyncSandbox.create(api_key="e2b_0", api_url="http://127.0.0.1:1", **limits)
