"""What E2B's clients make of every answer a server may give: exception class and message."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import e2b
import pytest
from e2b import Sandbox

from tests import npm
from tests.e2b import answers
from tests.e2b.answers import Answer, Server, plain
from tests.e2b.rows import NAMES, ONCE, ROWS, Row

interpreter: Any = importlib.import_module("e2b_code_interpreter")


@dataclass(frozen=True)
class Kit:
    """What things are done with; the same names, synchronous or not."""

    sandbox: Any
    options: dict[str, Any]
    kinds: Any
    """With Volume, Secret and Template."""
    volume: Any
    """One with a token."""
    pty_options: dict[str, Any] = field(default_factory=dict)


def _build(kit: Kit) -> object:
    template = e2b.Template().from_base_image()
    return kit.kinds.Template.build(template, "name", **kit.options)


ACTIONS: dict[str, Callable[[Kit], Any]] = {
    "get_info": lambda kit: kit.sandbox.get_info(),
    "kill": lambda kit: kit.sandbox.kill(),
    "pause": lambda kit: kit.sandbox.pause(),
    "resume": lambda kit: kit.sandbox.connect(),
    "set_timeout": lambda kit: kit.sandbox.set_timeout(60),
    "read": lambda kit: kit.sandbox.files.read("file"),
    "write": lambda kit: kit.sandbox.files.write("file", "x"),
    "list": lambda kit: kit.sandbox.files.list("."),
    "make_dir": lambda kit: kit.sandbox.files.make_dir("d"),
    "run": lambda kit: kit.sandbox.commands.run("true"),
    "connect": lambda kit: _connected(kit.sandbox.commands.connect(7)),
    "pty": lambda kit: _connected(kit.sandbox.pty.connect(7, **kit.pty_options)),
    "is_running": lambda kit: kit.sandbox.is_running(),
    "alias": lambda kit: kit.kinds.Template.alias_exists("name", **kit.options),
    "tags": lambda kit: kit.kinds.Template.get_tags("name", **kit.options),
    "build": _build,
    "volume": lambda kit: kit.kinds.Volume.get_info("none", **kit.options),
    "volume_read": lambda kit: kit.volume.read_file("/file"),
    "secret": lambda kit: kit.kinds.Secret.get_info("none", **kit.options),
    "run_code": lambda kit: kit.sandbox.run_code("1", timeout=0.5),
    "context": lambda kit: kit.sandbox.create_code_context(),
}


def _connected(handle: Any) -> Any:
    """Waits for what was connected to."""
    if inspect.isawaitable(handle):
        return _connected_async(handle)
    return handle.wait()


async def _connected_async(handle: Any) -> Any:
    return await (await handle).wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with answers.answering() as running:
        yield running


@pytest.fixture
def volume_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_VOLUME_API_URL", server.options["api_url"])


@pytest.fixture(scope="module")
def kit(server: Server) -> Kit:
    made = interpreter.Sandbox.create(**server.options)
    return Kit(made, server.account, e2b, e2b.Volume("v", "volume", "token"))


@dataclass(frozen=True)
class AsyncKinds:
    Volume: Any = e2b.AsyncVolume
    Secret: Any = e2b.AsyncSecret
    Template: Any = e2b.AsyncTemplate


@pytest.mark.usefixtures("volume_address")
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_python(server: Server, kit: Kit, row: Row) -> None:
    action, server.answer, name, words, *_ = row
    try:
        seen = ACTIONS[action](kit)
    except Exception as error:
        seen = error
    _check(seen, name, words)


@pytest.mark.usefixtures("volume_address")
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
async def test_python_asynchronously(server: Server, row: Row) -> None:
    action, server.answer, name, words, *_ = row
    sandbox = await interpreter.AsyncSandbox.create(**server.options)
    volume = e2b.AsyncVolume("v", "volume", "token")
    pty_options = {"on_data": lambda _: None}
    kit = Kit(sandbox, server.account, AsyncKinds(), volume, pty_options)
    try:
        seen = await ACTIONS[action](kit)
    except Exception as error:
        seen = error
    _check(seen, name, words)


def _check(seen: object, name: str, words: str) -> None:
    if isinstance(seen, Exception):
        assert type(seen).__name__ == name, repr(seen)
        assert words in str(seen)
    else:
        assert name in (str(seen), type(seen).__name__)


@pytest.fixture(scope="module")
def javascript(server: Server) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Does a thing on Node, and tells what came of it."""
    packages = npm.installed(npm.CODE_INTERPRETER, npm.BASE)
    script = shutil.copy(Path(__file__).with_name("answers.mjs"), packages.directory)
    with subprocess.Popen(
        [packages.node, str(script)],
        env={**os.environ, **server.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        asked, told = node.stdin, node.stdout

        def do(action: str) -> dict[str, Any]:
            print(action, file=asked, flush=True)
            seen: dict[str, Any] = json.loads(told.readline())
            return seen

        yield do
        asked.close()
        node.wait(30)


@pytest.mark.npm
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_npm(server: Server, javascript: Callable[[str], dict[str, Any]], row: Row) -> None:
    action, server.answer, _, _, name, words = row
    seen = javascript(action)
    if "value" in seen:
        value = seen["value"]
        assert name in (json.dumps(value), "object" if isinstance(value, dict) else "")
    else:
        assert seen["name"] == name, seen
        assert words in seen["message"]


def test_what_is_not_running_is_no_error(server: Server) -> None:
    sandbox = Sandbox.create(**server.options)
    server.answer = Answer(200, health=502)
    assert sandbox.is_running() is False


def test_what_is_told_not_to_be_tried_again_is_not(server: Server) -> None:
    sandbox = Sandbox.create(**server.options)
    server.answer = plain(429, "limit", **ONCE)
    server.requests.clear()
    with pytest.raises(e2b.RateLimitException):
        sandbox.get_info()
    assert len(server.requests) == 1
