"""What cannot work ends with a clear error, soon, and leaves no sandbox behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import e2b
import httpx
import pytest

from code_interpreter import (
    AuthenticationException,
    InvalidArgumentException,
    NotFoundException,
    Sandbox,
    SandboxException,
    TimeoutException,
)
from tests.service import Service


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox.create() as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def nothing_is_left(service: Service, environment: dict[str, str]) -> Iterator[None]:
    before = sandbox_ids(service)
    yield
    assert sandbox_ids(service) <= before


def sandbox_ids(service: Service) -> set[str]:
    answer = httpx.get(f"{service.url}/v2/sandboxes", headers={"X-API-KEY": service.key})
    return {each["sandboxID"] for each in answer.json()}


@pytest.mark.parametrize("code", [None, 5, b"1+1", ["1+1"]])
def test_code_that_is_no_text(sandbox: Sandbox, code: object) -> None:
    with pytest.raises(InvalidArgumentException, match=type(code).__name__):
        sandbox.run_code(code)  # type: ignore[call-overload]
    assert sandbox.run_code("1+1").text == "2"


def test_an_unknown_context(sandbox: Sandbox) -> None:
    with pytest.raises(NotFoundException, match="nowhere"):
        sandbox.run_code("1", context="nowhere")
    assert sandbox.run_code("1+1").text == "2"


def test_language_and_context(sandbox: Sandbox) -> None:
    context = sandbox.create_code_context()
    with pytest.raises(InvalidArgumentException, match="context"):
        sandbox.run_code("1", language="python", context=context)  # type: ignore[call-overload]


def test_a_language_that_is_not_there(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxException, match="cobol"):
        sandbox.run_code("1", language="cobol")
    assert sandbox.run_code("1+1").text == "2"


def test_a_directory_that_is_not_there(sandbox: Sandbox) -> None:
    before = len(sandbox.list_code_contexts())
    with pytest.raises(SandboxException, match="/no/such"):
        sandbox.create_code_context(cwd="/no/such")
    assert len(sandbox.list_code_contexts()) == before


def test_a_killed_sandbox() -> None:
    sandbox = Sandbox.create()
    sandbox.run_code("1")
    sandbox.kill()
    started = time.monotonic()
    with pytest.raises(TimeoutException, match=r"killed|not found|timeout"):
        sandbox.run_code("1")
    with pytest.raises(TimeoutException):
        sandbox.commands.run("true")
    assert time.monotonic() - started < 10


def test_a_sandbox_that_is_killed_while_code_runs(sandbox: Sandbox) -> None:
    handle = sandbox.run_code("import time; time.sleep(60)", background=True)
    time.sleep(0.5)
    started = time.monotonic()
    sandbox.kill()
    with pytest.raises(TimeoutException):
        handle.wait()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("key", ["e2b_" + "0" * 40, "wrong"])
@pytest.mark.parametrize("client", [Sandbox, e2b.Sandbox])
def test_a_wrong_key(client: type[e2b.Sandbox], key: str) -> None:
    with pytest.raises(AuthenticationException):
        client.create(api_key=key)


def test_a_missing_key(service: Service) -> None:
    answer = httpx.post(f"{service.url}/sandboxes", json={"templateID": "base"})
    assert answer.status_code == 401
    assert "X-API-KEY" in answer.json()["message"]


def test_an_unknown_template() -> None:
    with pytest.raises(SandboxException, match="no-such-template"):
        Sandbox.create(template="no-such-template")


def test_a_sandbox_that_never_was() -> None:
    with pytest.raises(NotFoundException, match="inone"):
        Sandbox.connect("inone")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"templateID": 5}', b'{"templateID": "base", "timeout": -1}']
)
def test_a_broken_body(service: Service, body: bytes) -> None:
    headers = {"X-API-KEY": service.key, "Content-Type": "application/json"}
    answer = httpx.post(f"{service.url}/v2/sandboxes", headers=headers, content=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == answer.status_code
    assert answer.json()["message"]


def test_a_hundred_megabytes_of_code(sandbox: Sandbox) -> None:
    sandbox.run_code("kept = 1")
    started = time.monotonic()
    code = "x = '" + "a" * 100_000_000 + "'"
    try:
        execution = sandbox.run_code(code)
    except SandboxException as error:
        assert "MiB" in str(error) or "bytes" in str(error) or "large" in str(error)  # noqa: PT017
    else:
        assert execution.error is None
        assert sandbox.run_code("len(x)").text == "100000000"
    assert time.monotonic() - started < 30
    assert sandbox.run_code("kept").text == "1"


def test_a_path_that_is_a_directory(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxException):
        sandbox.files.read("/tmp")
    with pytest.raises(SandboxException, match="/etc/passwd"):
        sandbox.files.write("/etc/passwd/x", "y")


def test_a_user_that_is_not_there(sandbox: Sandbox) -> None:
    with pytest.raises(AuthenticationException, match="nobody-here"):
        sandbox.commands.run("true", user="nobody-here")
