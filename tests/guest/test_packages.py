"""Which directories supervisors import from."""

from __future__ import annotations

import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from code_interpreter.guest.packages import ReadOnlyPackages, moved

STDLIB = sysconfig.get_path("stdlib")


@pytest.mark.parametrize(
    ("place", "read_only"),
    [
        ("/opt/code-interpreter", "/opt/code-interpreter"),
        ("/opt/code-interpreter/local/lib/x", "/opt/code-interpreter/local/lib/x"),
        ("/usr/local", "/opt/code-interpreter/local"),
        ("/usr/local/lib/python3/x", "/opt/code-interpreter/local/lib/python3/x"),
        (f"{STDLIB}/asyncio", "/opt/code-interpreter/stdlib/asyncio"),
    ],
)
def test_a_directory_becomes_its_read_only_view(place: str, read_only: str) -> None:
    assert moved([place]) == [read_only]


@pytest.mark.parametrize(
    "place", ["", "/", "/tmp", "/home/user", "/usr/lib/python3/dist-packages", "/usr/localised"]
)
def test_what_has_no_read_only_view_is_left_out(place: str) -> None:
    assert moved([place]) == []


def test_a_module_of_a_writable_directory_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("raise AssertionError")
    assert PathFinder.find_spec("planted", [str(tmp_path)]) is not None
    assert ReadOnlyPackages().find_spec("planted", [str(tmp_path)]) is None
