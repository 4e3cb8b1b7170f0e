"""Whoever is refused because there are too many is told when to come again, at every place."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import code_interpreter
from code_interpreter.gateway.gateway import Refusal, TooMany
from code_interpreter.host import edge_answers, errors
from code_interpreter.host.edge_answers import Refused
from tests.gateway.world import running_gateway, short_directory

pytestmark = pytest.mark.security
PACKAGE = Path(code_interpreter.__file__).parent
SERVERS = ("host", "gateway", "envd", "guest")
LATER = {429, 503}
PLACES = {"gateway/gateway.py", "host/edge_answers.py", "host/errors.py"}
"""Where these statuses are given; what each of them says is looked at below."""
NUMBERS_OF_CALLS = {"guest/syscalls.py", "guest/seccomp.py"}


def test_nobody_else_refuses_so() -> None:
    """envd neither: of its limits it tells within an answer that has begun."""
    found = set()
    for path in (path for room in SERVERS for path in (PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in LATER:
                found.add(str(path.relative_to(PACKAGE)))
            named = isinstance(node, ast.Attribute) and node.attr
            assert named not in ("TOO_MANY_REQUESTS", "SERVICE_UNAVAILABLE"), path
    assert found - NUMBERS_OF_CALLS == PLACES


def _all_below(kind: type[errors.HostError]) -> Iterator[type[errors.HostError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_below(below)


def test_the_control_plane() -> None:
    busy = [kind for kind in _all_below(errors.HostError) if kind.status in LATER]
    assert len(busy) >= 4
    for kind in busy:
        assert int(kind.headers["Retry-After"]) > 0, kind


def test_the_edge() -> None:
    answers = list(_answers_of_the_edge())
    busy = [answer for answer in answers if answer.status in LATER]
    assert len(answers) > 15
    assert len(busy) >= 3
    for answer in busy:
        head = answer.response(close=True).partition(b"\r\n\r\n")[0].decode().lower()
        (wait,) = [line for line in head.split("\r\n") if line.startswith("retry-after: ")]
        assert int(wait.partition(": ")[2]) > 0


def _answers_of_the_edge() -> Iterator[Refused]:
    for name, made in inspect.getmembers(edge_answers, inspect.isfunction):
        if name.startswith("_") or made.__module__ != edge_answers.__name__:
            continue
        parameters = inspect.signature(made, eval_str=True).parameters.values()
        values: list[Any] = [400 if each.annotation in (int, float) else "x" for each in parameters]
        yield made(*values)


def test_the_gateway_has_one_word_for_it() -> None:
    for kind in Refusal.__subclasses__():
        assert kind is TooMany
    assert TooMany("x").status == 429
    assert int(TooMany("x").headers["Retry-After"]) > 0
    for path in (PACKAGE / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Refusal", "HTTPError"):
                status = node.args[0]
                assert not (isinstance(status, ast.Constant) and status.value in LATER), path


ASKED = {
    "/contexts": {"language": "python"},
    "/execute": {"code": "1", "language": "bash"},
    "/api/kernels": {"name": "python3"},
    "/api/sessions": {"path": "x", "name": "x", "type": "console", "kernel": {"name": "python3"}},
}


async def test_every_route_of_the_gateway_that_makes_a_context() -> None:
    with short_directory() as directory:
        async with running_gateway(directory, max_contexts=2) as world, world.client() as client:
            for path, body in ASKED.items():
                answer = await client.post(path, json=body)
                _check(answer)


def _check(answer: httpx.Response) -> None:
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Should-Retry"] == "false"
    assert "limit" in answer.text
