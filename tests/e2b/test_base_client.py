"""E2B's base client, unmodified: sandboxes, commands and files."""

from __future__ import annotations

import time
from collections.abc import Iterator

import e2b
import httpx
import pytest

from tests.service import Service


@pytest.fixture
def sandbox() -> Iterator[e2b.Sandbox]:
    sandbox = e2b.Sandbox.create(metadata={"purpose": "test"}, envs={"GREETING": "hello"})
    yield sandbox
    sandbox.kill()


def test_what_is_known_of_a_sandbox(sandbox: e2b.Sandbox) -> None:
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.metadata == {"purpose": "test"}
    assert info.state is e2b.SandboxState.RUNNING
    assert info.end_at > info.started_at
    assert info.allow_internet_access is False, "what it has, not what E2B's client wishes for"


def test_a_list_of_sandboxes(sandbox: e2b.Sandbox) -> None:
    query = e2b.SandboxQuery(metadata={"purpose": "test"})
    listed = e2b.Sandbox.list(query=query).next_items()
    assert [each.sandbox_id for each in listed] == [sandbox.sandbox_id]


def test_more_time_and_less(sandbox: e2b.Sandbox) -> None:
    sandbox.set_timeout(600)
    longer = sandbox.get_info().end_at
    sandbox.set_timeout(60)
    assert (longer - sandbox.get_info().end_at).total_seconds() > 500


def test_the_variables_of_a_sandbox(sandbox: e2b.Sandbox) -> None:
    assert sandbox.commands.run("echo $GREETING").stdout == "hello\n"
    assert sandbox.commands.run("echo $GREETING", envs={"GREETING": "hey"}).stdout == "hey\n"


def test_a_command_in_a_directory(sandbox: e2b.Sandbox) -> None:
    assert sandbox.commands.run("pwd", cwd="/tmp").stdout == "/tmp\n"


def test_a_command_s_output_comes_as_it_is_printed(sandbox: e2b.Sandbox) -> None:
    pieces: list[tuple[float, str]] = []
    sandbox.commands.run(
        "echo one; sleep 0.5; echo two",
        on_stdout=lambda text: pieces.append((time.monotonic(), text)),
    )
    assert "".join(text for _, text in pieces) == "one\ntwo\n"
    assert pieces[-1][0] - pieces[0][0] > 0.3


def test_a_command_in_the_background(sandbox: e2b.Sandbox) -> None:
    handle = sandbox.commands.run("echo started; sleep 60", background=True)
    listed = {each.pid: each for each in sandbox.commands.list()}
    assert handle.pid in listed
    assert sandbox.commands.kill(handle.pid) is True
    with pytest.raises(e2b.CommandExitException):
        handle.wait()
    assert sandbox.commands.kill(handle.pid) is False


def test_input_for_a_command(sandbox: e2b.Sandbox) -> None:
    handle = sandbox.commands.run("read line; echo got $line", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "words\n")
    assert handle.wait().stdout == "got words\n"


def test_files(sandbox: e2b.Sandbox) -> None:
    written = sandbox.files.write("notes/today.txt", "läuft\n")
    assert written.path == "/home/user/notes/today.txt"
    assert sandbox.files.read("notes/today.txt") == "läuft\n"
    assert sandbox.files.exists("notes/today.txt")
    assert [entry.name for entry in sandbox.files.list("notes")] == ["today.txt"]
    assert sandbox.files.get_info("notes/today.txt").size == 7
    assert sandbox.files.rename("notes/today.txt", "notes/old.txt").name == "old.txt"
    sandbox.files.remove("notes/old.txt")
    assert not sandbox.files.exists("notes/old.txt")
    with pytest.raises(e2b.NotFoundException):
        sandbox.files.read("notes/old.txt")
    assert sandbox.files.make_dir("empty") is True
    assert sandbox.files.make_dir("empty") is False


def test_many_files_at_once(sandbox: e2b.Sandbox) -> None:
    sandbox.files.write_files([{"path": f"many/{n}", "data": f"{n}" * n} for n in range(20)])
    assert len(sandbox.files.list("many")) == 20
    assert sandbox.files.read("many/7") == "7777777"


def test_a_large_file(sandbox: e2b.Sandbox) -> None:
    content = bytes(range(256)) * 40_000
    sandbox.files.write("large", content)
    assert bytes(sandbox.files.read("large", format="bytes")) == content


def test_a_server_inside_the_sandbox(sandbox: e2b.Sandbox, service: Service) -> None:
    handle = sandbox.commands.run(
        "mkdir -p site && echo hello from inside > site/index.html && "
        "python3 -m http.server -d site 8123",
        background=True,
        timeout=0,
    )
    headers = {"Host": sandbox.get_host(8123)}
    deadline = time.monotonic() + 20
    while (answer := httpx.get(service.url, headers=headers)).status_code == 502:
        assert answer.json()["message"] == "The sandbox is running but port is not open"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.text == "hello from inside\n"
    handle.kill()


async def test_asynchronously() -> None:
    sandbox = await e2b.AsyncSandbox.create()
    try:
        assert (await sandbox.commands.run("echo $((6 * 7))")).stdout == "42\n"
        await sandbox.files.write("a.txt", "b")
        assert await sandbox.files.read("a.txt") == "b"
    finally:
        assert await sandbox.kill() is True
    assert not await sandbox.is_running()
