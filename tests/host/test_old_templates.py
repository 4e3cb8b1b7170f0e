"""Templates of earlier versions go, those that somebody may use stay."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from code_interpreter.host.old_templates import UNUSED_SECONDS, note_use, remove_unused

PRESENT = "0123456789abcdef"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """All of it is old."""
    for name in (
        *("fedcba9876543210/local/deep/file", "00000000ffffffff.unfinished/local/file"),
        *(f"{PRESENT}/local/file", f"{PRESENT}/root-01234567/etc", f"{PRESENT}/root-76543210/etc"),
        "notes/file",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    long_ago = time.time() - UNUSED_SECONDS - 60
    for place in (*tmp_path.iterdir(), *(tmp_path / PRESENT).iterdir()):
        os.utime(place, (long_ago, long_ago))
    note_use(tmp_path / PRESENT)
    return tmp_path


def names(templates: Path) -> set[str]:
    found = [*templates.iterdir(), *(templates / PRESENT).iterdir()]
    return {place.name for place in found} - {"lock"}


async def test_what_nobody_uses_goes(templates: Path) -> None:
    await remove_unused(templates, templates / PRESENT / "root-01234567")
    assert names(templates) == {PRESENT, "notes", "local", "root-01234567"}
    assert (templates / PRESENT / "local/file").exists()


async def test_what_another_host_uses_stays(templates: Path) -> None:
    note_use(templates / "fedcba9876543210")
    await remove_unused(templates, templates / PRESENT / "root-01234567")
    assert "fedcba9876543210" in names(templates)


async def test_nothing_goes_while_one_is_prepared(templates: Path) -> None:
    before = names(templates)
    with (templates / "lock").open("w") as preparing:
        fcntl.flock(preparing, fcntl.LOCK_EX)
        await remove_unused(templates, templates / PRESENT / "root-01234567")
    assert names(templates) == before
