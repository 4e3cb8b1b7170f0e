"""Trying whether this machine can make a sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from code_interpreter.host import cgroup_search
from code_interpreter.host.ids import is_machine_root
from code_interpreter.host.runtimes.namespaces import data_digest
from code_interpreter.host.trial import try_out
from tests.host.running import data_directory
from tests.service import cgroups_named, mounts_below, processes_of

RESERVE = 1 << 30


@pytest.fixture
def data() -> Iterator[Path]:
    with data_directory() as path:
        path.mkdir()
        yield path


def test_a_sandbox_is_made_and_nothing_of_it_is_left(data: Path) -> None:
    of_a_host = cgroup_search.find(f"code-interpreter-{data_digest(data)}")
    groups = cgroups_named("code-interpreter-")
    try:
        trial = try_out(data, memory_reserve=RESERVE)
        assert trial.made, trial.refused
        assert 0 < trial.seconds < 20
        assert trial.isolation.tier == "namespaces"
        assert (
            "own processes, mounts, network, IPC, host name and users" in trial.isolation.enforced
        )
        assert list(data.iterdir()) == []
        assert processes_of(data) == []
        assert mounts_below(data) == []
        assert all(group.is_dir() for group in of_a_host.controllers.values())
        assert set(cgroups_named("code-interpreter-")) <= set(groups)
    finally:
        of_a_host.remove_parents()


def test_what_is_refused_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_machine_root():
        pytest.skip("for root, whose sandboxes need what is taken away here")
    monkeypatch.setattr("code_interpreter.host.runtimes.namespaces.FIRST_ID", 0xFFFF_FFF0)
    monkeypatch.setattr("code_interpreter.host.runtimes.namespaces.MOST_RANGES", 1)
    trial = try_out(data, memory_reserve=RESERVE)
    assert not trial.made
    assert "Invalid argument" in trial.refused
    assert list(data.iterdir()) == []


def test_what_takes_too_long_is_not_called_made(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("code_interpreter.host.trial.DEADLINE", 0.0)
    trial = try_out(data, memory_reserve=RESERVE)
    assert not trial.made
    assert "not ready after 0 seconds" in trial.refused
    assert list(data.iterdir()) == []


def test_a_machine_that_is_called_slow_has_more_time(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("code_interpreter.host.runtimes.forkserver.WARM_UP_DEADLINE", 0.001)
    refused = try_out(data, memory_reserve=RESERVE).refused
    assert "the fork server was not ready after 0.001 seconds" in refused
    assert "CODE_INTERPRETER_SLOWNESS" in refused
    monkeypatch.setattr("code_interpreter.host.trial.DEADLINE", 0.001)
    trial = try_out(data, memory_reserve=RESERVE, slowness=60_000)
    assert trial.made, trial.refused


TRY = """
import json, sys
from pathlib import Path
from code_interpreter.host.machine import examine
from code_interpreter.host.trial import try_out
from code_interpreter.host.settings import Settings
trial = try_out(Path(sys.argv[1]), memory_reserve=1 << 30)
settings = Settings(data_dir=sys.argv[1])
facts = [fact for section in examine(settings, trial) for fact in section.facts]
print(json.dumps({"refused": trial.refused, "missing": trial.isolation.missing,
    "facts": {fact.name: [fact.standing, fact.detail, fact.remedy] for fact in facts}}))
"""
OVERLAY_AT_USR = (
    "mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work && mount -t overlay overlay "
    "-o lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work /usr"
)
HIDDEN_PROC = "mount -t tmpfs none /proc/sys/fs"


def _in_a_mount_namespace(before: str, data: Path) -> Any:
    """What is found after a command of root's that changes mounts, for nobody else to see."""
    if not is_machine_root():
        pytest.skip("only root may mount what this test is about")
    shell = f'{before} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-ec", shell, "sh", sys.executable, "-c", TRY, str(data)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_usr_on_overlayfs_as_in_a_container(data: Path) -> None:
    found = _in_a_mount_namespace(OVERLAY_AT_USR, data)
    assert found["refused"] == ""
    assert any("/usr belong to nobody" in words for words in found["missing"])
    assert found["facts"]["id-mapped mounts"][0] == "limited"
    assert "copy" in found["facts"]["sudo in sandboxes"][1]


def test_a_proc_that_is_hidden_in_part_is_named(data: Path) -> None:
    found = _in_a_mount_namespace(HIDDEN_PROC, data)
    standing, detail, _ = found["facts"]["a sandbox"]
    assert standing == "missing"
    assert "/proc of its own" in detail
