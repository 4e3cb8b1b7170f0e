"""Init, envd and the gateway hold little, and whoever took one over would reach nothing."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from e2b import Sandbox

from code_interpreter.guest import rights
from tests.envd import supervisors
from tests.security import hijack
from tests.service import Service

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(os.getuid() != 0, reason="only root sees the supervisors from outside"),
]


@pytest.fixture(scope="module")
def processes(service: Service) -> Iterator[list[psutil.Process]]:
    """Init, the gateway and envd of one sandbox."""
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        sandbox.commands.run("true")
        yield supervisors.processes(sandbox.sandbox_id)
    finally:
        sandbox.kill()


def _status(process: psutil.Process) -> dict[str, str]:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def _mask(capabilities: frozenset[int]) -> str:
    return f"{sum(1 << number for number in capabilities):016x}"


def test_supervisors_hold_few_capabilities(processes: list[psutil.Process]) -> None:
    init, *others = map(_status, processes)
    assert init["CapEff"] == init["CapBnd"] == _mask(rights.INIT)
    masks = {_mask(held) for held in rights.SUPERVISORS.values()}
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert {status[name] for status in others} == masks, name
    for name in ("CapInh", "CapAmb"):
        assert {status[name] for status in others} == {_mask(frozenset())}, name


def test_no_supervisor_may_do_what_takes_over_machines(processes: list[psutil.Process]) -> None:
    """The numbers of capabilities(7): administration, modules, tracing, devices, networks."""
    dangerous = {2, 9, 12, 13, 16, 17, 19, 21, 22, 24, 25, 27, 38, 39, 40}
    for process in processes:
        assert not hijack.capabilities(process.pid) & dangerous, process


def test_every_process_of_a_sandbox_is_filtered(processes: list[psutil.Process]) -> None:
    """No-new-privileges cannot be set: user code inherits it, and it has to have ``sudo``."""
    for process in processes:
        status = _status(process)
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0"), process
    for process in processes[0].children(recursive=True):
        assert _status(process)["Seccomp"] == "2", process


def test_supervisors_inherit_nothing_of_the_host(
    processes: list[psutil.Process], service: Service
) -> None:
    for process in processes:
        directory = Path(f"/proc/{process.pid}/fd")
        places = {str(path.readlink()) for path in directory.iterdir()}
        files = {place for place in places if place.startswith("/") and place != "/dev/null"}
        known = ("/box.log", "/executions.log (deleted)")
        assert not [place for place in files if not place.endswith(known)], process
        environment = process.environ()
        assert not {name for name in environment if name.startswith(("E2B_", "CODE_INTERPRETER"))}
        assert service.key not in str(environment)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls by number")
@pytest.mark.parametrize("number", [1, 2], ids=["gateway", "envd"])
def test_a_hijacked_supervisor_reaches_nothing(
    processes: list[psutil.Process], number: int
) -> None:
    command = [sys.executable, "-m", "tests.security.hijack", str(processes[number].pid)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers.keys() == hijack.ATTACKS.keys()
    refused = {"EPERM", "EACCES", "EROFS", "ENOENT", "ENOSYS"}
    assert {name: answer for name, answer in answers.items() if answer not in refused} == {}
