"""Nothing that a sandbox wrote keeps it from being removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from code_interpreter.host.removal import remove_tree
from code_interpreter.host.runtimes.base import RuntimeFailure

DEPTH = 3000
"""Deeper than Python's stack and than the longest path (PATH_MAX)."""


def make_deep_tree(top: Path) -> None:
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("deeper", dir_fd=descriptor)
        below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


async def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    make_deep_tree(tmp_path / "tree")
    await remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("count", [0, 3, 100])
async def test_plain_files(tmp_path: Path, count: int) -> None:
    (tmp_path / "tree" / "empty").mkdir(parents=True)
    for number in range(count):
        (tmp_path / "tree" / str(number)).touch()
    await remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


async def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(outside)
    await remove_tree(tmp_path / "tree")
    assert (outside / "file").exists()
    assert not (tmp_path / "tree").exists()


async def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    await remove_tree(tmp_path / "nothing")


async def test_what_cannot_be_removed_is_said() -> None:
    with pytest.raises(RuntimeFailure, match="/proc/self/fdinfo could not be removed"):
        await remove_tree(Path("/proc/self/fdinfo"))
