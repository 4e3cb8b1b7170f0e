"""The rooms import each other only in the directions that docs/architecture.md allows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "code_interpreter"
CLIENT = "client"
MAY_IMPORT = {
    "protocol": set[str](),
    CLIENT: {"protocol"},
    "guest": {"protocol"},
    "envd": {"guest", "protocol"},
    "gateway": {"guest", "protocol"},
    "host": {"protocol", "guest.config"},
    "cli": {"protocol", "host", CLIENT},
}


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else CLIENT


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        found.append((name.removesuffix(".__init__"), path))
    return found


@pytest.mark.parametrize(("module", "path"), _modules(), ids=lambda value: str(value))
def test_imports_go_one_way(module: str, path: Path) -> None:
    room = _room(module)
    for imported in _imports(path):
        if imported.partition(".")[0] != "code_interpreter":
            continue
        target = _room(imported)
        within = imported.removeprefix("code_interpreter.")
        allowed = target == room or target in MAY_IMPORT[room] or within in MAY_IMPORT[room]
        assert allowed, f"{module} ({room}) imports {imported} ({target})"


def test_every_room_is_described() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    for path in PACKAGE.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"{path.name}/" in text, f"docs/architecture.md says nothing of {path.name}/"
