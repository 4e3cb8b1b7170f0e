"""What the code itself must not do, whatever it is used for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import code_interpreter

pytestmark = pytest.mark.security
PACKAGE = Path(code_interpreter.__file__).parent
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
EVALUATORS = {"eval", "exec", "compile", "__import__"}


def _nodes(below: Path = PACKAGE) -> Iterator[tuple[str, ast.AST]]:
    """Of every module: where it is, and what."""
    for path in sorted(below.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}", node


def test_nothing_is_unpickled() -> None:
    """On no side: what comes from a sandbox, from a client or from a file is data."""
    for place, node in _nodes():
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & UNPICKLERS, place
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNPICKLERS, place


def test_nothing_is_evaluated() -> None:
    for place, node in _nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in EVALUATORS, place


def test_no_shell_is_started() -> None:
    for place, node in _nodes():
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant), place
            assert not node.value.value, place
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("create_subprocess_shell", "getoutput"), place
            of_os = isinstance(node.value, ast.Name) and node.value.id == "os"
            assert not (of_os and node.attr in ("system", "popen")), place


def test_the_host_imports_only_modules_that_it_names() -> None:
    for place, node in _nodes(PACKAGE / "host"):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("import_module", "run_path", "run_module"), place
