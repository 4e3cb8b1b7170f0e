"""Trying whether this machine can make a sandbox."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from code_interpreter.host import cgroup_search
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
    if os.getuid() != 0:
        pytest.skip("for root, whose sandboxes need what is taken away here")
    monkeypatch.setattr("code_interpreter.host.runtimes.namespaces.FIRST_ID", 0xFFFF_FFF0)
    trial = try_out(data, memory_reserve=RESERVE)
    assert not trial.made
    assert "Invalid argument" in trial.refused
    assert list(data.iterdir()) == []
