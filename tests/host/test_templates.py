"""What makes a template a new one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from code_interpreter.host import templates
from code_interpreter.host.templates import TemplateStore, etc_fingerprint
from tests.service import Service, cache_directory


def test_what_is_installed_later_changes_the_root(tmp_path: Path) -> None:
    (tmp_path / "alternatives").mkdir()
    before = etc_fingerprint(tmp_path)
    assert etc_fingerprint(tmp_path) == before
    (tmp_path / "R").mkdir()
    with_r = etc_fingerprint(tmp_path)
    (tmp_path / "hostname").write_text("not among what is taken")
    assert before != with_r == etc_fingerprint(tmp_path)


async def test_nobody_else_on_the_machine_can_write_to_a_template(service: Service) -> None:
    """Sandboxes' users may write to everything in it, each to a copy of its own."""
    prepared = await TemplateStore(cache_directory() / "templates").prepare("base", print)
    assert stat.S_IMODE(prepared.directory.stat().st_mode) == 0o700


async def test_what_is_there_is_not_looked_for_again_at_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(templates, "note_use", lambda directory: looks.append(None))
    store = TemplateStore(cache_directory() / "templates")
    first = await store.prepare("base", print)
    assert await store.prepare("base", print) == first
    assert len(looks) == 1
    monkeypatch.setattr(templates, "FRESH_SECONDS", -1)
    assert await store.prepare("base", print) == first
    assert len(looks) == 2
