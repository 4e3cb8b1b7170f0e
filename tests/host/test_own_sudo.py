"""``sudo`` of sandboxes whose host is not root: a copy that belongs to their root."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from code_interpreter.host import own_sudo, templates
from code_interpreter.host.ids import IdGrant, IdKind


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "local" / "bin").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "sudoers").write_text("user ALL=(ALL:ALL) NOPASSWD: ALL\n")
    (tmp_path / "etc" / "sudoers").chmod(0o440)
    return tmp_path


def test_a_copy_with_its_plugins(template: Path) -> None:
    assert own_sudo.problem() is None
    own_sudo.install(template / "local")
    own_sudo.configure(template / "etc", one_account=False)
    program = template / "local" / "bin" / "sudo"
    assert stat.S_IMODE(program.stat().st_mode) == 0o4755
    assert program.read_bytes() == own_sudo.PROGRAM.read_bytes()
    for line in (template / "etc" / "sudo.conf").read_text().splitlines():
        plugin = Path(line.split()[2])
        assert (template / plugin.relative_to("/usr")).is_file()
    assert (template / "etc" / "sudoers").read_text().count("\n") == 1


def test_where_there_is_one_account(template: Path) -> None:
    own_sudo.configure(template / "etc", one_account=True)
    sudoers = template / "etc" / "sudoers"
    assert sudoers.read_text().endswith("Defaults preserve_groups\n")
    assert stat.S_IMODE(sudoers.stat().st_mode) == 0o400
    assert (template / "etc" / "sudo.conf").read_text().count(" sudoers_mode=0400\n") == 3
    if shutil.which("visudo"):
        sudoers.chmod(0o440)
        checked = subprocess.run(["visudo", "-c", "-f", sudoers], capture_output=True, text=True)
        assert "parsed OK" in checked.stdout, checked.stderr


def test_without_sudo_its_users_are_told(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_sudo, "PROGRAM", template / "no-sudo")
    assert own_sudo.problem() == f"{template}/no-sudo is missing: apt-get install sudo"
    own_sudo.install(template / "local")
    own_sudo.configure(template / "etc", one_account=False)
    assert not (template / "etc" / "sudo.conf").exists()
    said = subprocess.run(
        [template / "local" / "bin" / "sudo", "id"], capture_output=True, text=True
    )
    assert said.returncode == 1
    assert "sudo: not in this sandbox: its host does not run as root, and" in said.stderr
    assert "apt-get install sudo" in said.stderr


@pytest.mark.parametrize("kind", [IdKind.RANGE, IdKind.SINGLE])
def test_the_root_of_a_template_knows_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: IdKind
) -> None:
    monkeypatch.setattr(templates, "id_grant", lambda: IdGrant(kind))
    monkeypatch.setattr(templates, "sandboxes_own_usr", lambda: False)
    templates._make_root(tmp_path / "root")
    assert "Plugin sudoers_policy" in (tmp_path / "root" / "etc" / "sudo.conf").read_text()
