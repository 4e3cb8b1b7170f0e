"""What `code-interpreter doctor` says, as whom, and its exit code."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from code_interpreter.host.facts import Standing, works
from tests.host.running import data_directory
from tests.service import cgroups_named

DOCTOR = [sys.executable, "-m", "code_interpreter.cli.main", "doctor"]
AS_ROOT_OF_A_NAMESPACE = ["unshare", "--user", "--map-root-user"]


@pytest.fixture
def data() -> Iterator[Path]:
    with data_directory() as path:
        yield path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert "Traceback" not in result.stderr
    return result


def examine(data: Path, *before: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Exit code, facts by name, verdict."""
    result = run(*before, *DOCTOR, "--json", "--data-dir", str(data))
    whole = json.loads(result.stdout)
    facts = {fact["name"]: fact for section in whole["facts"].values() for fact in section}
    return result.returncode, facts, whole["verdict"]


def needs_user_namespaces() -> None:
    if not works(*AS_ROOT_OF_A_NAMESPACE, "true"):
        pytest.skip("this user may not make user namespaces, which this test is about")


def test_the_verdict_follows_from_the_facts(data: Path) -> None:
    code, facts, verdict = examine(data)
    missing = [name for name, fact in facts.items() if fact["standing"] == Standing.MISSING]
    assert code == bool(missing)
    assert verdict["runtime"] == (None if missing else "namespaces")
    named = ", ".join(verdict["next_steps"].values()).split(", ")
    for fact in facts.values():
        short = fact["standing"] in (Standing.MISSING, Standing.LIMITED)
        assert (fact["name"] in named) == bool(short and fact["remedy"]), fact
    assert cgroups_named("doctor") == []


def test_a_disk_that_is_short_is_told(data: Path) -> None:
    reserve = "CODE_INTERPRETER_DISK_RESERVE_MB"
    _, facts, _ = examine(data, "env", f"{reserve}=0")
    assert facts["room on the disk"]["standing"] == Standing.OK
    _, facts, verdict = examine(data, "env", f"{reserve}=1000000000")
    short = facts["room on the disk"]
    assert short["standing"] == Standing.LIMITED
    assert "too little for another sandbox" in short["detail"]
    assert "reserve of 1000000000 MiB" in short["detail"]
    assert any(str(data) in step and "--data-dir" in step for step in verdict["next_steps"])


def test_it_can_be_read(data: Path) -> None:
    result = run(*DOCTOR, "--data-dir", str(data))
    assert max(map(len, result.stdout.splitlines())) <= 200
    for word in ("Isolation", "Limits", "tier", "sudo in sandboxes", "several parties"):
        assert word in result.stdout
    assert "\x1b" not in result.stdout


def test_root_of_the_machine_gets_everything(data: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("for root")
    _, facts, verdict = examine(data)
    if facts["control groups"]["standing"] != Standing.OK:
        pytest.skip("this machine gives root no control groups")
    assert verdict["tier"] == "isolated, and limited in everything"
    assert verdict["missing"] == []
    assert any("memory" in item for item in verdict["enforced"])


def test_root_of_a_namespace_is_not_root_of_the_machine(data: Path) -> None:
    needs_user_namespaces()
    code, facts, verdict = examine(data, *AS_ROOT_OF_A_NAMESPACE)
    assert code == 0
    assert verdict["tier"] == "isolated, with gaps"
    assert facts["disk space"]["standing"] == Standing.LIMITED
    assert verdict["sudo"] == facts["sudo in sandboxes"]["detail"]
    assert verdict["sudo"].startswith("works, to root only")
    assert verdict["strangers"].startswith("no")


def test_what_holds_back_user_namespaces_is_named(data: Path) -> None:
    needs_user_namespaces()
    doctor = shlex.join([*DOCTOR, "--json", "--data-dir", str(data)])
    shell = f"echo 0 > /proc/sys/user/max_user_namespaces && {doctor}"
    result = run(*AS_ROOT_OF_A_NAMESPACE, "sh", "-c", shell)
    assert result.returncode == 1
    verdict = json.loads(result.stdout)["verdict"]
    assert verdict["runtime"] is None
    assert verdict["tier"] == "no isolation"
    assert verdict["enforced"] == []
    (step,) = [step for step in verdict["next_steps"] if "max_user_namespaces" in step]
    assert step.startswith("sudo sysctl -w user.max_user_namespaces=")
    assert next(iter(verdict["next_steps"])) in (step, "run the host as root of the machine")


def test_a_data_directory_that_cannot_be_written() -> None:
    result = run(*DOCTOR, "--data-dir", "/proc/nothing")
    assert result.returncode == 1
    assert "--data-dir" in result.stderr
