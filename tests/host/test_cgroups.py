"""Control groups: on this machine's own mounts, and what is written on version 2."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from code_interpreter.host import cgroup_search
from code_interpreter.host.cgroup_search import MOUNT, OWN_GROUP, find, find_again, find_v2
from code_interpreter.host.cgroups import SUPERVISOR_TASKS, Cgroups
from code_interpreter.host.facts import works
from code_interpreter.host.pausing import Pausing
from code_interpreter.host.runtimes.base import (
    Box,
    Limits,
    PolicyNotEnforceable,
    RuntimeFailure,
    SandboxSpec,
)
from code_interpreter.host.runtimes.namespaces import NamespacesRuntime
from code_interpreter.host.templates import PreparedTemplate

MIB = 1024 * 1024
GROUP = f"code-interpreter-test-{os.getpid()}"
ALL = Limits(memory_bytes=256 * MIB, cpu_count=0.5, pids=100)


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    found = find(GROUP)
    missing = {"memory", "pids", "cpu", "freezer"} - set(found.controllers)
    if missing:
        pytest.skip(f"this user may not use the controllers {missing} on this machine")
    try:
        yield found
    finally:
        found.remove("box")
        found.remove_parents()


def _value(groups: Cgroups, controller: str, *names: str) -> str:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            return (groups.directories("box")[controller] / name).read_text().strip()
    raise AssertionError(f"none of {names}")


def test_limits_are_what_the_kernel_says(groups: Cgroups) -> None:
    groups.create("box", ALL)
    memory = _value(groups, "memory", "memory.limit_in_bytes", "memory.max")
    assert int(memory) == 256 * MIB
    assert int(_value(groups, "pids", "pids.max")) == 100 + SUPERVISOR_TASKS
    assert _value(groups, "cpu", "cpu.max", "cpu.cfs_quota_us").split()[0] == "50000"


def test_what_does_not_fit_is_not_swapped(groups: Cgroups) -> None:
    groups.create("box", ALL)
    try:
        swap = _value(groups, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    except AssertionError:
        pytest.skip("this kernel does not count swap")
    assert int(swap) == (0 if groups.version == 2 else 256 * MIB)


def test_what_is_in_a_group_is_limited_frozen_and_counted(groups: Cgroups) -> None:
    groups.create("box", ALL)
    hog = "x = bytearray(100 << 20)\nprint('there', flush=True)\nimport time; time.sleep(60)"
    command = [sys.executable, "-c", f"input()\n{hog}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            groups.join("box", process.pid)
            process.stdin.write(b"\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            assert process.stdout.readline() == b"there\n"  # type: ignore[union-attr]
            assert groups.pids("box") == [process.pid]
            assert 100 * MIB <= (groups.memory_bytes("box") or 0) <= 256 * MIB
            groups.freeze("box", frozen=True)
            groups.freeze("box", frozen=False)
        finally:
            process.kill()


def test_all_boxes_together_leave_room(groups: Cgroups) -> None:
    groups.bound(memory_bytes=64 * MIB, tasks=50, cores=3)
    assert 0 < (groups.memory_room() or 0) <= 64 * MIB
    parents = groups.controllers
    assert (parents["pids"] / "pids.max").read_text() == "50\n"
    weight = parents["cpu"] / ("cpu.weight" if groups.version == 2 else "cpu.shares")
    assert weight.read_text() == ("300\n" if groups.version == 2 else "3072\n")


def test_a_successor_finds_groups_that_are_elsewhere(groups: Cgroups) -> None:
    groups.create("box", ALL)
    successor = find(f"{GROUP}-successor")
    try:
        with subprocess.Popen(["sleep", "60"]) as process:
            try:
                groups.join("box", process.pid)
                find_again(groups, "box", process.pid)
                assert groups.elsewhere == {}
                assert successor.pids("box") == []
                find_again(successor, "box", process.pid)
                assert successor.pids("box") == [process.pid]
                successor.freeze("box", frozen=True)
                successor.freeze("box", frozen=False)
            finally:
                process.kill()
        successor.remove("box")
        assert not any(place.exists() for place in groups.directories("box").values())
        assert not any(place.exists() for place in groups.controllers.values())
    finally:
        successor.remove_parents()


def test_a_successor_with_groups_adopts_a_box_without(groups: Cgroups) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            find_again(groups, "box", process.pid)
            assert not groups.can_freeze("box")
            assert groups.can_freeze("another")
            assert groups.memory_bytes("box") is None
            assert groups.reclaim_file("box") is None
            groups.allow_swap("box", allowed=True)
        finally:
            process.kill()
    groups.remove("box")
    assert groups.elsewhere == {}


SHOWN_IN_PART = """
import pathlib
from code_interpreter.host.cgroup_search import find
print(find("boxes").controllers["freezer"], pathlib.Path("/proc/self/cgroup").read_text())
find("boxes").remove_parents()
"""


def test_a_container_is_shown_its_own_part_of_the_groups(groups: Cgroups) -> None:
    """Under the path that the part has outside, there is nothing."""
    if os.getuid() != 0 or groups.version != 1:
        pytest.skip("for root on version 1, where a mount shows a part and /proc the whole path")
    parent = groups.controllers["freezer"]
    shell = 'echo $$ > "$0/cgroup.procs"; mount --bind "$0" "$1"; shift; exec "$@"'
    command = ["unshare", "--mount", "sh", "-ec", shell, str(parent), str(MOUNT / "freezer")]
    command += [sys.executable, "-c", SHOWN_IN_PART]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{MOUNT}/freezer/boxes ")
    assert f":freezer:/{parent.relative_to(MOUNT / 'freezer')}\n" in result.stdout


def test_a_limit_without_a_controller_is_refused() -> None:
    with pytest.raises(PolicyNotEnforceable, match="memory limit"):
        Cgroups({}, 0).create("box", Limits(memory_bytes=MIB))
    with pytest.raises(PolicyNotEnforceable, match="cpu limit"):
        Cgroups({}, 0).create("box", Limits(cpu_count=1))
    assert Cgroups({}, 0).memory_room() is None


@pytest.mark.parametrize("version", [0, 2])
def test_a_host_without_groups_makes_boxes_without(version: int) -> None:
    """On version 2 it looks for groups of boxes that it adopts."""
    groups = Cgroups({}, version)
    groups.create("box", Limits(pids=100))
    assert groups.paths("box") == {}
    groups.join("box", os.getpid())
    assert not groups.can_freeze("box")
    assert groups.memory_bytes("box") is None
    groups.remove("box")


async def test_a_host_without_groups_refuses_limits_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup_search, "find", lambda group: Cgroups({}, 0))
    runtime = NamespacesRuntime(tmp_path, PreparedTemplate("base", tmp_path / "none"))
    for name in ("run", "sandboxes"):
        (tmp_path / name).mkdir()
    spec = SandboxSpec("i0", "base", Limits(memory_bytes=256 * MIB))
    with pytest.raises(PolicyNotEnforceable, match="memory limit"):
        await runtime.create(spec)
    assert [path for name in ("run", "sandboxes") for path in (tmp_path / name).iterdir()] == []
    assert runtime.enforceable(ALL).memory_bytes is None


# --- version 2 --------------------------------------------------------------------------


def test_what_is_written_on_version_2(tmp_path: Path) -> None:
    groups = Cgroups(dict.fromkeys(("memory", "pids", "cpu", "freezer"), tmp_path), 2)
    groups.create("box", ALL)
    said = {path.name: path.read_text() for path in (tmp_path / "box").iterdir()}
    assert said == {
        "memory.max": str(256 * MIB),
        "memory.swap.max": "0",
        "pids.max": str(100 + SUPERVISOR_TASKS),
        "cpu.max": "50000 100000",
    }
    assert groups.paths("box") == {"unified": str(tmp_path / "box")}


def test_room_on_version_2(tmp_path: Path) -> None:
    for group, limit in ((tmp_path, "max"), (tmp_path / "service", str(300 * MIB))):
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{100 * MIB}\n")
        (group / "memory.stat").write_text(f"anon 5\nfile 9\ninactive_file {20 * MIB}\n")
    groups = Cgroups({"memory": tmp_path / "service"}, 2)
    assert groups.memory_room() == 220 * MIB
    groups.bound(memory_bytes=200 * MIB, tasks=1, cores=1)
    assert groups.memory_room() == 120 * MIB


def test_a_pause_that_the_kernel_does_not_finish_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("code_interpreter.host.cgroups.REMOVAL_DEADLINE", 0.05)
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    pausing = Pausing(Cgroups({"freezer": tmp_path}, 2))
    box = Box("i0", "namespaces", os.getpid(), 0, tmp_path / "box", "base")
    with pytest.raises(RuntimeFailure, match="did not settle on 'frozen 1'"):
        asyncio.run(pausing.pause(box))
    assert (tmp_path / "box" / "cgroup.freeze").read_text() == "0"


def test_a_controller_that_is_refused_does_not_take_the_others_along(tmp_path: Path) -> None:
    """In a tree of files: no kernel of ours refuses one alone."""
    parent, boxes = tmp_path, tmp_path / "boxes"
    boxes.mkdir()
    (parent / "cgroup.controllers").write_text("cpu memory pids\n")
    (boxes / "cgroup.procs").touch()
    (boxes / "cgroup.subtree_control").mkdir()  # takes nothing
    found = cgroup_search._hand_down(parent, "boxes", ["cpu", "memory"])
    assert found == Cgroups({"freezer": boxes}, 2)
    (boxes / "cgroup.subtree_control").rmdir()
    found = cgroup_search._hand_down(parent, "boxes", ["cpu", "memory"])
    assert found == Cgroups(dict.fromkeys(("cpu", "memory", "freezer"), boxes), 2)


DELEGATED = """
import os, pathlib, subprocess, sys
from code_interpreter.host.cgroup_search import find_v2
mount, service, controller = map(pathlib.Path, sys.argv[1:])
(service / "cgroup.procs").write_text(str(os.getpid()))
child = subprocess.Popen(["sleep", "30"])
try:
    groups = find_v2("boxes", mount, {controller.name})
    again = find_v2("boxes", mount, {controller.name})
    assert groups is not None and groups == again, (groups, again)
    print(groups.controllers[controller.name])
    print(open("/proc/self/cgroup").read())
    groups.directories("box")["freezer"].mkdir()
    groups.join("box", child.pid)
    groups.freeze("box", frozen=True)
    print(open(f"/proc/{child.pid}/cgroup").read())
    groups.freeze("box", frozen=False)
finally:
    child.kill()
    child.wait()
groups.remove("box")
groups.remove_parents()
"""


@pytest.fixture
def unified(tmp_path: Path) -> Iterator[Path]:
    """A version 2 mount with a controller on it, whichever that is, for root to make groups in."""
    mount = tmp_path / "unified"
    mount.mkdir()
    if os.getuid() == 0 and works("mount", "-t", "cgroup2", "none", str(mount)):
        try:
            if (mount / "cgroup.controllers").read_text().split():
                yield mount
                return
        finally:
            subprocess.run(["umount", "-l", mount], check=True)
    pytest.skip("no version 2 mount with a controller that this user may use")


def test_a_delegated_service_moves_itself_down(unified: Path) -> None:
    with _run_in_a_service(DELEGATED, unified) as (service, _, said):
        lines = said.splitlines()
        assert lines[0] == str(service / "boxes")
        assert f"0::/{service.name}/{OWN_GROUP}" in lines
        assert f"0::/{service.name}/boxes/box" in lines


LOOKED_AT = """
import os, pathlib, subprocess, sys
from code_interpreter.host import cgroup_search
mount, service = map(pathlib.Path, sys.argv[1:3])
(service / "cgroup.procs").write_text(str(os.getpid()))
child = subprocess.Popen(["sleep", "30"])

def now():
    own = cgroup_search._group_of
    return [own("self", ""), own(child.pid, ""), (service / "cgroup.subtree_control").read_text()]

try:
    before = now()
    with cgroup_search.as_found(mount):
        groups = cgroup_search.find_v2("boxes", mount, sys.argv[3:])
        assert groups is not None
        made_way = now()
        groups.remove_parents()
    print([before, made_way, now()])
finally:
    child.kill()
    child.wait()
"""


def test_who_only_looks_leaves_the_groups_as_they_were(unified: Path) -> None:
    with _run_in_a_service(LOOKED_AT, unified) as (service, controller, said):
        before, made_way, after = ast.literal_eval(said)
        assert before == [f"/{service.name}", f"/{service.name}", ""]
        assert made_way == [f"/{service.name}/{OWN_GROUP}"] * 2 + [f"{controller}\n"]
        assert after == before
        assert not (service / OWN_GROUP).exists()


ADOPTED = """
import os, pathlib, subprocess, sys
from code_interpreter.host import cgroup_search
from code_interpreter.host.cgroups import Cgroups
mount, service, controller = map(pathlib.Path, sys.argv[1:])
(service / "cgroup.procs").write_text(str(os.getpid()))
child = subprocess.Popen(["sleep", "30"])
try:
    before = cgroup_search.find_v2("boxes", mount, {controller.name})
    before.directories("box")["freezer"].mkdir()
    before.join("box", child.pid)
    before.freeze("box", frozen=True)
    after = Cgroups({}, 2)
    cgroup_search.find_again(after, "box", child.pid, mount=mount)
    assert after.can_freeze("box") and not after.can_freeze("another")
    after.freeze("box", frozen=False)
    print(after.directories("box")["freezer"])
finally:
    child.kill()
    child.wait()
after.remove("box")
before.remove_parents()
"""


def test_a_successor_without_groups_continues_what_was_frozen(unified: Path) -> None:
    with _run_in_a_service(ADOPTED, unified) as (service, _, said):
        assert said == f"{service}/boxes/box\n"
        assert not (service / "boxes").exists()


@contextlib.contextmanager
def _run_in_a_service(program: str, unified: Path) -> Iterator[tuple[Path, str, str]]:
    """A group as systemd delegates one, the controller that it got, and what a program that
    was told of both has said there."""
    controller = (unified / "cgroup.controllers").read_text().split()[0]
    handed_down = (unified / "cgroup.subtree_control").read_text().split()
    service = unified / f"{GROUP}.service"
    (unified / "cgroup.subtree_control").write_text(f"+{controller}")
    service.mkdir()
    try:
        command = [sys.executable, "-c", program, str(unified), str(service), controller]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert result.returncode == 0, result.stderr
        yield service, controller, result.stdout
    finally:
        _remove(service / OWN_GROUP)
        _remove(service)
        if controller not in handed_down:
            (unified / "cgroup.subtree_control").write_text(f"-{controller}")


def _remove(group: Path) -> None:
    """A process that has ended may be in it for a moment."""
    deadline = time.monotonic() + 5
    while group.is_dir():
        try:
            group.rmdir()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_plain_directory_is_no_control_group(tmp_path: Path) -> None:
    assert find_v2("boxes", tmp_path) is None
    assert find("boxes", mount=tmp_path) == Cgroups({}, 0)
