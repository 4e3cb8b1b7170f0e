"""What can be imported, and at what price."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import e2b
import pytest

import code_interpreter
from code_interpreter import errors
from code_interpreter.names import OURS

e2b_code_interpreter = importlib.import_module("e2b_code_interpreter")
e2b_charts = importlib.import_module("e2b_code_interpreter.charts")


def test_everything_of_e2bs_package_is_here_by_the_same_name() -> None:
    theirs = {name for name in dir(e2b_code_interpreter) if not name.startswith("_")}
    modules = {"code_interpreter_sync", "code_interpreter_async", "constants", "exceptions"}
    here = {*code_interpreter.__all__, "charts", "client", "models"}
    assert theirs - modules <= here
    assert set(e2b.__all__) <= here
    charts = {name for name in vars(e2b_charts) if isinstance(vars(e2b_charts)[name], type)}
    assert {name for name in charts if name[0].isupper() and name != "Any"} <= here


@pytest.mark.parametrize("name", code_interpreter.__all__)
def test_every_public_name_can_be_loaded(name: str) -> None:
    assert getattr(code_interpreter, name) is not None


def test_names_that_are_not_ours_are_e2bs_own() -> None:
    ours = {name for names in OURS.values() for name in names}
    for name in set(code_interpreter.__all__) - ours:
        assert getattr(code_interpreter, name) is getattr(e2b, name)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(code_interpreter.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(seen) == sorted(code_interpreter.__all__)


def test_submodules_of_e2bs_package_are_here() -> None:
    for module in ("charts", "client", "models"):
        importlib.import_module(f"code_interpreter.{module}")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        code_interpreter.nothing  # noqa: B018


def _loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    return set(run.stdout.split())


def test_rooms_that_run_in_a_sandbox_do_not_load_the_client() -> None:
    loaded = _loaded("import code_interpreter; from code_interpreter import guest")
    assert "e2b" not in loaded
    assert "pydantic" not in loaded


def test_the_client_does_not_load_the_host() -> None:
    loaded = _loaded("from code_interpreter import Sandbox, AsyncSandbox, Volume, E2B")
    assert not {name for name in loaded if name.startswith("code_interpreter.host")}
    assert not {"uvicorn", "starlette", "typer", "platformdirs"} & loaded


def test_every_exception_of_ours_is_in_the_tree() -> None:
    assert errors.__doc__ is not None
    for name in OURS["errors"]:
        assert name in errors.__doc__
        assert issubclass(getattr(errors, name), e2b.SandboxException)
