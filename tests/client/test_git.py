"""``sandbox.git`` of our clients: credentials that no command line and no file has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from e2b import GitAuthException, GitUpstreamException, InvalidArgumentException

from code_interpreter import AsyncSandbox, Sandbox
from code_interpreter.git import with_helper
from tests.envd.git_world import (
    CLOSED,
    HTTP,
    OPEN,
    PASSWORD,
    PLAIN,
    SLOW,
    USER,
    Lookout,
    serve_repository,
)
from tests.service import Service

ACCOUNT: Any = {"username": USER, "password": PASSWORD}
WRONG: Any = {"username": USER, "password": "wrong-canary"}


@pytest.fixture(scope="module")
def served(service: Service) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        serve_repository(sandbox)
        yield sandbox
    finally:
        sandbox.kill()


def test_credentials_are_nowhere_to_be_seen(served: Sandbox) -> None:
    place, git = "/home/user/unseen", served.git
    lookout = Lookout(served, place)
    git.clone(SLOW, place, **ACCOUNT)
    git.commit(place, "unseen", allow_empty=True)
    git.push(place, branch="main", **ACCOUNT)
    git.pull(place, **ACCOUNT)
    assert lookout.told() == []
    assert git.remote_get(place, "origin") == SLOW
    assert git.status(place).ahead == 0, "it was pushed"
    environments = "cat /proc/[0-9]*/environ 2>/dev/null | grep -c wrong-canary || true"
    assert served.commands.run(environments, user="root").stdout == "0\n"


async def test_for_asyncio_too(served: Sandbox, service: Service) -> None:
    place = "/home/user/unseen-async"
    sandbox = await AsyncSandbox.connect(served.sandbox_id, **service.options)
    git = sandbox.git
    lookout = Lookout(served, place)
    await git.clone(SLOW, place, branch="main", depth=1, **ACCOUNT)
    await git.create_branch(place, "async")
    await git.commit(place, "unseen", allow_empty=True)
    await git.push(place, "origin", "async", **ACCOUNT)
    await git.pull(place, "origin", "async", **ACCOUNT)
    assert lookout.told() == []
    with pytest.raises(GitAuthException):
        await git.push(place, "origin", "async", **WRONG)
    await sandbox.files.make_dir("async-home")
    await git.dangerously_authenticate(
        USER, PASSWORD, "example.org", envs={"HOME": "/home/user/async-home"}
    )


def test_authentication_shows_nothing_on_its_way(served: Sandbox) -> None:
    """It is kept in the home directory, as was asked for."""
    home = {"HOME": "/home/user/other"}
    served.commands.run("mkdir -p other")
    lookout = Lookout(served, "/home/user/nothing")
    served.git.dangerously_authenticate(
        USER, PASSWORD, host=f"127.0.0.1:{HTTP}", protocol="http", envs=home
    )
    assert lookout.told() == []
    served.git.clone(CLOSED, "/home/user/authenticated", envs=home)
    assert PASSWORD in served.files.read("other/.git-credentials")


@pytest.mark.parametrize("action", ["clone", "push", "pull"])
def test_wrong_credentials(served: Sandbox, action: str) -> None:
    git, place = served.git, f"/home/user/wrong-{action}"
    if action != "clone":
        git.clone(CLOSED, place, **ACCOUNT)
    with pytest.raises(GitAuthException) as caught:  # noqa: PT012 - one of three
        match action:
            case "clone":
                git.clone(CLOSED, place, **WRONG)
            case "push":
                git.push(place, "origin", "main", **WRONG)
            case _:
                git.pull(place, "origin", "main", **WRONG)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", True), ("localhost", False)])
def test_no_other_host_is_told(served: Sandbox, host: str, told: bool) -> None:
    """As that of a redirection, of a submodule, or of a second remote."""
    envs = with_helper({"GIT_TERMINAL_PROMPT": "0"}, CLOSED, USER, PASSWORD)
    asked = f"protocol=http\nhost={host}:{HTTP}\n\n"
    command = f"printf '{asked}' | git credential fill || true"
    answer = served.commands.run(command, envs=envs)
    assert (f"password={PASSWORD}\n" in answer.stdout) is told, answer


def test_what_cannot_be(served: Sandbox) -> None:
    git, place = served.git, "/home/user/refused"
    with pytest.raises(InvalidArgumentException, match="http and https"):
        git.clone(PLAIN, place, **ACCOUNT)
    with pytest.raises(InvalidArgumentException, match="line breaks"):
        git.clone(CLOSED, place, username=USER, password="two\nlines")
    with pytest.raises(InvalidArgumentException, match="user name and a password"):
        git.dangerously_authenticate(USER, "")
    with pytest.raises(InvalidArgumentException, match="GIT_CONFIG_COUNT"):
        git.clone(CLOSED, place, envs={"GIT_CONFIG_COUNT": "many"}, **ACCOUNT)
    git.clone(OPEN, place)
    git.create_branch(place, "alone")
    with pytest.raises(GitUpstreamException):
        git.pull(place, **ACCOUNT)


def test_settings_of_the_caller_are_kept(served: Sandbox) -> None:
    envs = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "clone.defaultRemoteName",
        "GIT_CONFIG_VALUE_0": "upstream",
    }
    served.git.clone(CLOSED, "/home/user/kept", envs=envs, **ACCOUNT)
    assert served.git.remote_get("/home/user/kept", "upstream") == CLOSED
