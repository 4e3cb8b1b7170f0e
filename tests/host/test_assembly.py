from __future__ import annotations

import sys
from pathlib import Path

import pytest

from code_interpreter.host.assembly import choose_runtime
from code_interpreter.host.errors import BadRequest
from code_interpreter.host.limits import LimitPolicy, machine_limits
from code_interpreter.host.runtimes.base import Limits, RuntimeFailure
from code_interpreter.host.runtimes.process import ProcessRuntime
from code_interpreter.host.settings import RuntimeName, Settings


async def test_only_linux_runs_sandboxes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(RuntimeFailure, match="E2B_API_URL"):
        await choose_runtime(Settings(data_dir=tmp_path), print)


async def test_the_process_runtime_is_never_chosen_by_itself(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).runtime is RuntimeName.AUTO
    settings = Settings(data_dir=tmp_path, runtime=RuntimeName.PROCESS)
    runtime, _ = await choose_runtime(settings, print)
    assert runtime.name == "process"
    assert runtime.isolation().enforced == ()


class Enforcing(ProcessRuntime):
    """As if this machine could enforce everything."""

    def enforceable(self, limits: Limits) -> Limits:
        return limits


def test_wishes_over_defaults_below_maxima(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, default_memory_mb=150, max_memory_mb=200)
    policy = LimitPolicy(settings, Enforcing(tmp_path))
    mib = 1024 * 1024
    assert policy.defaults.memory_bytes == 150 * mib
    assert policy.choose(Limits(memory_bytes=200 * mib)).memory_bytes == 200 * mib
    assert policy.choose(Limits(cpu_count=0.5)).memory_bytes == 150 * mib
    with pytest.raises(BadRequest, match="memoryMB must be from 128 to 200 on this host, not 201"):
        policy.choose(Limits(memory_bytes=201 * mib))
    with pytest.raises(BadRequest, match=r"cpuCount must be from 0\.1 to .*, not 10000"):
        policy.choose(Limits(cpu_count=10_000))
    with pytest.raises(BadRequest, match="cpuCount"):
        policy.choose(Limits(cpu_count=float("nan")))
    with pytest.raises(BadRequest, match="diskSizeMB must be from 64 to"):
        policy.choose(Limits(disk_bytes=mib))


def test_defaults_are_never_above_what_the_machine_has(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, default_memory_mb=10**9, default_cpu_count=10**6)
    policy = LimitPolicy(settings, Enforcing(tmp_path))
    machine = machine_limits(tmp_path)
    assert policy.defaults.memory_bytes == machine.memory_bytes
    assert policy.defaults.cpu_count == machine.cpu_count


def test_what_cannot_be_enforced_is_named(tmp_path: Path) -> None:
    policy = LimitPolicy(Settings(data_dir=tmp_path), ProcessRuntime(tmp_path))
    assert policy.defaults == Limits()
    assert {"memory_bytes", "cpu_count", "pids"} <= set(policy.dropped)
