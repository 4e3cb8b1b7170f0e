"""What makes a template a new one."""

from __future__ import annotations

from pathlib import Path

from code_interpreter.host.templates import etc_fingerprint


def test_what_is_installed_later_changes_the_root(tmp_path: Path) -> None:
    (tmp_path / "alternatives").mkdir()
    before = etc_fingerprint(tmp_path)
    assert etc_fingerprint(tmp_path) == before
    (tmp_path / "R").mkdir()
    with_r = etc_fingerprint(tmp_path)
    (tmp_path / "hostname").write_text("not among what is taken")
    assert before != with_r == etc_fingerprint(tmp_path)
