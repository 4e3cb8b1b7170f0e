"""What a kernel that ran out of memory is said to have had."""

from __future__ import annotations

from pathlib import Path

from code_interpreter.gateway.kernel_end import MIB, OutOfMemory
from code_interpreter.gateway.memory import MemoryGroup


def _group(state: Path, **files: str) -> MemoryGroup:
    group = state / "cgroup" / "unified"
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / f"memory.{name}").write_text(text)
    return MemoryGroup(state)


def test_on_version_2(tmp_path: Path) -> None:
    limit, peak = 400 * MIB, 399 * MIB
    group = _group(tmp_path, max=f"{limit}\n", peak=f"{peak}\n", current="5\n")
    assert group.shortage() == OutOfMemory(limit, peak)
    assert "(the sandbox's limit is 400 MiB, its peak 399 MiB)" in group.shortage().text()


def test_before_linux_5_19_no_peak_is_told(tmp_path: Path) -> None:
    """What is used after the kill is less than what was."""
    group = _group(tmp_path, max=f"{400 * MIB}\n", current=f"{30 * MIB}\n")
    assert group.shortage() == OutOfMemory(400 * MIB, None)
    assert group.shortage().text().endswith("(the sandbox's limit is 400 MiB)")


def test_kills_of_the_group_alone_count(tmp_path: Path) -> None:
    group = _group(tmp_path, events="low 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 3\n")
    assert group.kills() == 1
