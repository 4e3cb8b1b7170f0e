"""What is forked from one process must not be alike where it has to differ."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from code_interpreter import Sandbox
from code_interpreter.host import templates
from tests.service import Service, running_service

pytestmark = [pytest.mark.security, pytest.mark.timeout(240)]

DRAWS = """
import json, os, random, secrets, tempfile, threading, uuid
import numpy
print(json.dumps({
    "random": random.random(),
    "random bytes": random.randbytes(16).hex(),
    "numpy": numpy.random.rand(),
    "numpy generator": numpy.random.default_rng().random(),
    "uuid4": uuid.uuid4().hex,
    "uuid1": uuid.uuid1().hex,
    "urandom": os.urandom(16).hex(),
    "secrets": secrets.token_hex(),
    "temporary name": tempfile.mktemp(),
    "temporary directory": tempfile.mkdtemp(),
    "hash": hash("text"),
}))
"""


def test_random_things_differ_between_boxes_and_between_contexts(service: Service) -> None:
    with Sandbox.create(**service.options) as one, Sandbox.create(**service.options) as other:
        seen = []
        for sandbox in (one, other):
            for context in (None, sandbox.create_code_context(), sandbox.create_code_context()):
                drawn = sandbox.run_code(DRAWS, context=context)
                seen.append(json.loads("".join(drawn.logs.stdout)))
    for name in seen[0].keys() - {"hash"}:
        assert len({draw[name] for draw in seen}) == len(seen), name
    assert len({draw["hash"] for draw in seen}) == 1, "as documented, of one fork server"


def test_a_restarted_context_draws_anew(service: Service) -> None:
    with Sandbox.create(**service.options) as sandbox:
        context = sandbox.create_code_context()
        code = "import random, numpy; (random.random(), numpy.random.rand())"
        first = sandbox.run_code(code, context=context).text
        sandbox.restart_code_context(context)
        assert sandbox.run_code(code, context=context).text != first


def test_tokens_and_keys_differ(service: Service) -> None:
    with Sandbox.create(**service.options) as one, Sandbox.create(**service.options) as other:
        assert one._envd_access_token != other._envd_access_token
        ids = {context.id for each in (one, other) for context in each.list_code_contexts()}
        assert len(ids) == len(one.list_code_contexts()) + len(other.list_code_contexts())


def test_sockets_and_loops_are_the_kernels_own(service: Service) -> None:
    code = """
import asyncio, os, threading, zmq
loop = asyncio.get_running_loop()
async def answer():
    await asyncio.sleep(0)
    return await asyncio.to_thread(os.getpid)
with zmq.Context() as context, context.socket(zmq.REP) as server, context.socket(zmq.REQ) as peer:
    port = server.bind_to_random_port("tcp://127.0.0.1")
    peer.connect(f"tcp://127.0.0.1:{port}")
    peer.send(b"ping")
    server.send(server.recv())
    reply = peer.recv()
(reply, await answer() == os.getpid(), loop.is_running(), threading.main_thread().is_alive())
"""
    with Sandbox.create(**service.options) as sandbox:
        for context in (None, sandbox.create_code_context()):
            execution = sandbox.run_code(code, context=context)
            assert execution.text == "(b'ping', True, True, True)", execution.error


def test_without_the_fork_server_everything_works_only_slower() -> None:
    settings = {"CODE_INTERPRETER_FORK_SERVER": "false", "CODE_INTERPRETER_POOL_SIZE": "0"}
    with running_service(**settings) as service:
        sandbox = Sandbox.create(request_timeout=120, **service.options)
        summed = sandbox.run_code("import pandas; kept = int(pandas.Series([1, 2]).sum()); kept")
        assert summed.text == "3"
        assert sandbox.commands.run("echo hello; id -un").stdout == "hello\nuser\n"
        sandbox.files.write("/home/user/note", "text")
        second = sandbox.create_code_context(cwd="/tmp")
        assert sandbox.run_code("import os; os.getcwd()", context=second).text == "/tmp"
        assert sandbox.run_code("'kept' in globals()", context=second).text == "False"
        assert sandbox.run_code("kept").text == "3"
        assert sandbox.run_code("echo $((6 * 7))", language="bash").logs.stdout == ["42\n"]
        assert sandbox.kill()
        deadline = time.monotonic() + 20
        while any((service.data / "sandboxes").iterdir()):
            assert time.monotonic() < deadline, "its files are still there"
            time.sleep(0.05)


def test_another_template_has_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork server lives in the files that the digest names: a change makes a new one."""
    packages = tmp_path / "python-packages.txt"
    packages.write_text("numpy\n")
    monkeypatch.setattr(templates, "resources", lambda name: tmp_path)
    digests = set()
    for text in ("numpy\n", "numpy\npandas\n"):
        packages.write_text(text)
        templates._digest.cache_clear()
        digests.add(templates._digest())
    templates._digest.cache_clear()
    assert len(digests) == 2
