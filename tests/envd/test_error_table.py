"""What our answers become in E2B's Python client: a class, and a message that helps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from e2b import (
    AsyncSandbox,
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    InvalidArgumentException,
    NotEnoughSpaceException,
    NotFoundException,
    RateLimitException,
    Sandbox,
    SandboxException,
    SandboxNotRunningException,
    TimeoutException,
)

from tests.service import Service

Action = Callable[[Sandbox], object]


@pytest.fixture(scope="module")
def shared(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=300, **service.options)
    made.files.write("a-file", "content")
    yield made
    made.kill()


def _terminal_input(sandbox: Sandbox) -> None:
    handle = sandbox.commands.run("sleep 20", background=True, stdin=True)
    try:
        sandbox.pty.send_stdin(handle.pid, b"x")
    finally:
        handle.kill()


def _input_nobody_reads(sandbox: Sandbox) -> None:
    handle = sandbox.commands.run("sleep 20", background=True)
    try:
        sandbox.commands.send_stdin(handle.pid, "x")
    finally:
        handle.kill()


PLAIN: list[tuple[Action, type[Exception], str]] = [
    (lambda s: s.files.read("/tmp"), InvalidArgumentException, "/tmp' is a directory"),
    (lambda s: s.files.read("x" * 300), InvalidArgumentException, "255 bytes"),
    (lambda s: s.files.read("none"), FileNotFoundException, "/home/user/none' does not exist"),
    (lambda s: s.files.read("a-file", user="who"), AuthenticationException, "username: 'who'"),
    (lambda s: s.files.write("/tmp", "x"), InvalidArgumentException, "/tmp' is a directory"),
    (lambda s: s.files.write("a-file/below", "x"), InvalidArgumentException, "not a directory"),
    (lambda s: s.files.write("/proc/version", "x"), SandboxException, "403"),
]
CONNECT: list[tuple[Action, type[Exception], str]] = [
    (lambda s: s.commands.run("true", cwd="/no"), InvalidArgumentException, "'/no' does not exist"),
    (lambda s: s.commands.run("true", user="who"), AuthenticationException, "username: 'who'"),
    (lambda s: s.commands.connect(999_999), NotFoundException, "process with pid 999999 not found"),
    (lambda s: s.commands.send_stdin(999_999, "x"), NotFoundException, "pid 999999 not found"),
    (lambda s: s.commands.run("sleep 20", timeout=0.3), TimeoutException, "timeout"),
    (_terminal_input, SandboxException, "terminal"),
    (_input_nobody_reads, SandboxException, "stdin"),
    (lambda s: s.files.list("none"), FileNotFoundException, "/home/user/none"),
    (lambda s: s.files.list("a-file"), InvalidArgumentException, "not a directory"),
    (lambda s: s.files.get_info("none"), FileNotFoundException, "/home/user/none"),
    (lambda s: s.files.rename("none", "other"), FileNotFoundException, "/home/user/none"),
    (lambda s: s.files.make_dir("a-file"), InvalidArgumentException, "a-file"),
    (lambda s: s.files.watch_dir("none"), FileNotFoundException, "/home/user/none"),
    (lambda s: s.files.watch_dir("a-file"), InvalidArgumentException, "directory"),
    (lambda s: s.files.list("a\0b"), InvalidArgumentException, "NUL"),
]


@pytest.mark.parametrize(("action", "kind", "words"), PLAIN + CONNECT)
def test_an_answer(shared: Sandbox, action: Action, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        action(shared)
    assert type(caught.value) is kind
    assert words in str(caught.value)


def test_answers_that_are_no_exceptions(shared: Sandbox) -> None:
    assert shared.commands.kill(999_999) is False
    assert shared.files.exists("none") is False
    assert shared.files.exists("a-file/below") is False
    assert shared.files.make_dir("/tmp") is False
    shared.files.remove("none")


def test_an_exit_code(shared: Sandbox) -> None:
    with pytest.raises(CommandExitException) as caught:
        shared.commands.run("echo out; echo err >&2; exit 3")
    error = caught.value
    assert (error.exit_code, error.stdout, error.stderr) == (3, "out\n", "err\n")
    assert error.error == "exit status 3"


@pytest.mark.parametrize("token", [{}, {"X-Access-Token": "wrong"}])
def test_a_wrong_token(shared: Sandbox, service: Service, token: dict[str, str]) -> None:
    routed = {"E2b-Sandbox-Id": shared.sandbox_id, "E2b-Sandbox-Port": "49983", **token}
    for method, path, code in (
        ("GET", "/files?path=a-file", 401),
        ("POST", "/files?path=a-file", 401),
        ("POST", "/process.Process/List", "unauthenticated"),
        ("POST", "/filesystem.Filesystem/ListDir", "unauthenticated"),
    ):
        answer = httpx.request(method, service.url + path, headers=routed, json={})
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert "access token" in answer.json()["message"]


@pytest.mark.timeout(120)
def test_a_full_disk(sandbox: Sandbox) -> None:
    free = int(sandbox.commands.run("df --output=avail -B1 /home/user | tail -1").stdout)
    sandbox.commands.run(
        f"fallocate -l {free - 30_000_000} /home/user/filler", user="root", timeout=60
    )
    with pytest.raises(NotEnoughSpaceException, match="not enough disk space"):
        sandbox.files.write("big", b"x" * 64_000_000)
    sandbox.commands.run("sudo rm filler big")
    sandbox.files.write("small", "fits again")
    assert sandbox.files.read("small") == "fits again"


@pytest.mark.timeout(120)
def test_as_many_processes_as_there_may_be(sandbox: Sandbox) -> None:
    filled = "for n in $(seq 5000); do sleep 300 & done 2>/dev/null"
    sandbox.commands.run(f"({filled}) >/dev/null & sleep 3", timeout=60, background=True)

    def run_on() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            sandbox.commands.run("true")

    with pytest.raises(RateLimitException, match="as many processes and threads as it may have"):
        run_on()


def test_a_sandbox_that_was_killed(service: Service) -> None:
    sandbox = Sandbox.create(**service.options)
    sandbox.kill()
    for action in (
        lambda: sandbox.commands.run("true"),
        lambda: sandbox.files.read("x"),
        lambda: sandbox.files.list("/"),
        lambda: sandbox.commands.list(),
    ):
        with pytest.raises(SandboxNotRunningException, match="was not found"):
            action()
    assert sandbox.is_running() is False


def test_a_command_whose_sandbox_is_killed(service: Service) -> None:
    sandbox = Sandbox.create(**service.options)
    threading.Timer(0.7, sandbox.kill).start()
    started = time.monotonic()
    with pytest.raises(SandboxNotRunningException, match="killed or reached its end of life"):
        sandbox.commands.run("echo begun; sleep 30")
    assert time.monotonic() - started < 5


async def test_asynchronously(async_sandbox: AsyncSandbox) -> None:
    with pytest.raises(FileNotFoundException):
        await async_sandbox.files.read("none")
    with pytest.raises(TimeoutException):
        await async_sandbox.commands.run("sleep 20", timeout=0.3)
    with pytest.raises(InvalidArgumentException):
        await async_sandbox.commands.run("true", cwd="/no")
    with pytest.raises(AuthenticationException):
        await async_sandbox.commands.run("true", user="who")
    handle = await async_sandbox.commands.run("sleep 20", background=True)
    await async_sandbox.kill()
    with pytest.raises(SandboxNotRunningException):
        await handle.wait()
