"""What the code itself must not do, whatever it is used for."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

import code_interpreter

pytestmark = pytest.mark.security
PACKAGE = Path(code_interpreter.__file__).parent
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
EVALUATORS = {"eval", "exec", "compile", "__import__"}


@functools.cache
def _nodes(below: Path = PACKAGE) -> list[tuple[str, ast.AST]]:
    """Of every module: where it is, and what."""
    return [
        (f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}", node)
        for path in sorted(below.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
    ]


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


TRUSTED_LOADERS = {"json", "orjson", "tomllib"}


def test_nothing_is_loaded_but_by_parsers_of_data() -> None:
    """`pandas.read_pickle`, `numpy.load` and their like unpickle, too."""
    for place, node in _nodes():
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("read_pickle", "Unpickler", "find_class"), place
            if node.attr == "loads":
                assert isinstance(node.value, ast.Name), place
                assert node.value.id in TRUSTED_LOADERS, place
        elif isinstance(node, ast.keyword):
            assert node.arg != "allow_pickle", place


def test_a_rule_of_the_linter_says_so_too() -> None:
    """In any room of the package."""
    bad = "import pickle\n\npickle.loads(b'')\neval('1')\nexec('1')\n"
    for room in ("host", "gateway", "envd"):
        named = f"--stdin-filename={PACKAGE / room / 'new.py'}"
        command = [sys.executable, "-m", "ruff", "check", "--output-format=json", "--no-cache"]
        ran = subprocess.run(
            [*command, named, "-"],
            input=bad,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert {"S301", "S307", "S102"} <= {found["code"] for found in json.loads(ran.stdout)}, room


def test_the_host_imports_only_modules_that_it_names() -> None:
    for place, node in _nodes(PACKAGE / "host"):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("import_module", "run_path", "run_module"), place
