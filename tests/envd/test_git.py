"""``sandbox.git`` of E2B's client against real git servers inside the sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from e2b import AsyncSandbox, CommandExitException, GitAuthException, GitUpstreamException, Sandbox

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


@pytest.fixture(scope="module")
def served(service: Service) -> Iterator[Sandbox]:
    """A sandbox with one repository behind ``git daemon`` and behind smart HTTP."""
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        serve_repository(sandbox)
        yield sandbox
    finally:
        sandbox.kill()


@pytest.fixture
def place(served: Sandbox, request: pytest.FixtureRequest) -> str:
    """Where a test may clone to."""
    return "/home/user/work/" + re.sub(r"\W+", "-", request.node.name)


def subjects(sandbox: Sandbox, repository: str) -> list[str]:
    return sandbox.commands.run(f"git -C {repository} log --format=%s").stdout.splitlines()


@pytest.mark.parametrize("url", [PLAIN, OPEN])
def test_clone(served: Sandbox, place: str, url: str) -> None:
    served.git.clone(url, place)
    assert subjects(served, place)[-1] == "commit 1"


def test_clone_of_one_branch_to_a_depth(served: Sandbox, place: str) -> None:
    served.git.clone(OPEN, place, branch="side", depth=1)
    assert subjects(served, place) == ["side"]
    assert served.git.status(place).current_branch == "side"


def test_clone_with_credentials_leaves_none(served: Sandbox, place: str) -> None:
    served.git.clone(CLOSED, place, username=USER, password=PASSWORD)
    assert subjects(served, place)[-1] == "commit 1"
    assert served.git.remote_get(place, "origin") == CLOSED
    found = served.commands.run(f"grep -r {PASSWORD} {place} ~/.git* || true")
    assert found.stdout == ""


def test_clone_may_keep_its_credentials_if_asked_to(served: Sandbox, place: str) -> None:
    served.git.clone(
        CLOSED, place, username=USER, password=PASSWORD, dangerously_store_credentials=True
    )
    remote = served.git.remote_get(place, "origin")
    assert remote is not None
    assert PASSWORD in remote


@pytest.mark.parametrize("password", [None, "wrong-canary"])
def test_clone_without_the_right_credentials(
    served: Sandbox, place: str, password: str | None
) -> None:
    username = None if password is None else USER
    with pytest.raises(GitAuthException) as caught:
        served.git.clone(CLOSED, place, username=username, password=password)
    assert "canary" not in str(caught.value)


def test_a_day_s_work(served: Sandbox, place: str) -> None:
    git = served.git
    git.clone(PLAIN, place)
    assert git.status(place).is_clean
    served.files.write(f"{place}/new.txt", "new\n")
    served.files.write(f"{place}/file1.txt", "changed\n")
    served.files.remove(f"{place}/file2.txt")
    seen = {each.name: each.status for each in git.status(place).file_status}
    assert seen == {"new.txt": "untracked", "file1.txt": "modified", "file2.txt": "deleted"}
    git.add(place, files=["new.txt"])
    assert git.status(place).staged_count == 1
    git.add(place)
    git.commit(place, "all of it", author_name="Other", author_email="other@example.org")
    log = served.commands.run(f"git -C {place} log -1 --format='%an %ae'").stdout
    assert log == "Other other@example.org\n"
    status = git.status(place)
    assert (status.is_clean, status.ahead, status.behind) == (True, 1, 0)


def test_branches(served: Sandbox, place: str) -> None:
    git = served.git
    git.clone(OPEN, place)
    assert (git.branches(place).current_branch, git.branches(place).branches) == ("main", ["main"])
    git.create_branch(place, "topic")
    assert git.branches(place).current_branch == "topic"
    git.checkout_branch(place, "main")
    git.delete_branch(place, "topic")
    assert git.branches(place).branches == ["main"]
    git.checkout_branch(place, "side")
    assert served.files.exists(f"{place}/side.txt")


def test_push_and_pull(served: Sandbox, place: str) -> None:
    git = served.git
    for name in ("a", "b"):
        git.clone(CLOSED, f"{place}/{name}", username=USER, password=PASSWORD)
    git.create_branch(f"{place}/a", "shared")
    served.files.write(f"{place}/a/pushed.txt", "pushed")
    git.add(f"{place}/a")
    git.commit(f"{place}/a", "pushed")
    git.push(f"{place}/a", "origin", "shared", username=USER, password=PASSWORD)
    git.pull(f"{place}/b", "origin", "shared", username=USER, password=PASSWORD)
    assert served.files.read(f"{place}/b/pushed.txt") == "pushed"
    assert PASSWORD not in (git.remote_get(f"{place}/a", "origin") or "")


def test_push_and_pull_without_an_upstream(served: Sandbox, place: str) -> None:
    served.git.clone(OPEN, place)
    served.git.create_branch(place, "alone")
    with pytest.raises(GitUpstreamException):
        served.git.push(place, set_upstream=False)
    with pytest.raises(GitUpstreamException):
        served.git.pull(place)


def test_push_without_the_right_credentials(served: Sandbox, place: str) -> None:
    served.git.clone(CLOSED, place, username=USER, password=PASSWORD)
    served.git.commit(place, "empty", allow_empty=True)
    with pytest.raises(GitAuthException):
        served.git.push(place, "origin", "main")
    with pytest.raises(CommandExitException, match="Authentication failed") as caught:
        served.git.push(place, "origin", "main", username=USER, password="wrong-canary")
    assert "canary" not in str(caught.value)
    assert served.git.remote_get(place, "origin") == CLOSED


def test_authenticate(served: Sandbox, place: str) -> None:
    git = served.git
    served.commands.run("mkdir -p other")
    home = {"HOME": "/home/user/other"}
    git.dangerously_authenticate(
        USER, PASSWORD, host=f"127.0.0.1:{HTTP}", protocol="http", envs=home
    )
    git.clone(CLOSED, place, envs=home)
    assert subjects(served, place)[-1] == "commit 1"


def test_remotes(served: Sandbox, place: str) -> None:
    git = served.git
    git.init(place, initial_branch="trunk")
    assert git.status(place).current_branch == "trunk"
    assert git.remote_get(place, "origin") is None
    git.remote_add(place, "origin", OPEN, fetch=True)
    assert git.remote_get(place, "origin") == OPEN
    git.remote_add(place, "origin", CLOSED, overwrite=True)
    assert git.remote_get(place, "origin") == CLOSED


def test_a_bare_repository(served: Sandbox, place: str) -> None:
    served.git.init(place, bare=True)
    assert served.files.exists(f"{place}/HEAD")


def test_configuration(served: Sandbox, place: str) -> None:
    git = served.git
    git.init(place)
    git.set_config("core.comment", 'it\'s 100% "quoted" $HOME', scope="local", path=place)
    seen = git.get_config("core.comment", scope="local", path=place)
    assert seen == 'it\'s 100% "quoted" $HOME'
    assert git.get_config("user.name") == "Tester"
    assert git.get_config("no.such") is None


def test_reset_and_restore(served: Sandbox, place: str) -> None:
    git = served.git
    git.clone(OPEN, place)
    served.files.write(f"{place}/file1.txt", "changed\n")
    git.add(place)
    git.reset(place, paths=["file1.txt"])
    assert not git.status(place).has_staged
    git.restore(place, paths=["file1.txt"])
    assert git.status(place).is_clean
    git.reset(place, mode="hard", target="HEAD~1")
    assert subjects(served, place) == ["commit 2", "commit 1"]
    git.restore(place, paths=["file1.txt"], source="HEAD~1")
    assert served.files.read(f"{place}/file1.txt") == "1\n"


def test_pushing_to_a_daemon(served: Sandbox, place: str) -> None:
    for name in ("a", "b"):
        served.git.clone(PLAIN, f"{place}/{name}")
    served.git.create_branch(f"{place}/a", "by-daemon")
    served.git.commit(f"{place}/a", "by daemon", allow_empty=True)
    served.git.push(f"{place}/a", "origin", "by-daemon")
    served.git.pull(f"{place}/b", "origin", "by-daemon")
    assert subjects(served, f"{place}/b")[0] == "by daemon"


def test_what_the_clients_own_way_shows_is_gone_afterwards(
    served: Sandbox, service: Service, place: str
) -> None:
    """It writes credentials into URLs, for as long as its commands run."""
    lookout = Lookout(served, place)
    served.git.clone(SLOW, place, username=USER, password=PASSWORD)
    served.git.commit(place, "slowly", allow_empty=True)
    served.git.push(place, "origin", "main", username=USER, password=PASSWORD)
    assert "arguments" in lookout.told(), "what is true of this client has changed"
    assert Lookout(served, place).told() == []
    search = f"grep -rls {PASSWORD} {place} ~/.git* ~/.bash_history /tmp /var/log || true"
    assert served.commands.run(search).stdout == ""
    assert PASSWORD not in served.commands.run("ps -ww -eo args", user="root").stdout
    logs = [service.data.parent / "log", *service.data.rglob("*.log")]
    assert [path for path in logs if path.is_file() and PASSWORD in path.read_text()] == []


async def test_asynchronously(served: Sandbox, service: Service, place: str) -> None:
    sandbox = await AsyncSandbox.connect(served.sandbox_id, **service.options)
    git = sandbox.git
    await git.clone(CLOSED, place, branch="main", depth=1, username=USER, password=PASSWORD)
    await git.create_branch(place, "awaited")
    await sandbox.files.write(f"{place}/new.txt", "new")
    await git.add(place)
    assert (await git.status(place)).staged_count == 1
    await git.commit(place, "awaited")
    await git.push(place, "origin", "awaited", username=USER, password=PASSWORD)
    await git.pull(place, "origin", "awaited", username=USER, password=PASSWORD)
    assert (await git.branches(place)).current_branch == "awaited"
    await git.checkout_branch(place, "main")
    await git.delete_branch(place, "awaited", force=True)
    await git.remote_add(place, "other", OPEN)
    assert await git.remote_get(place, "other") == OPEN
    await git.set_config("core.comment", "x", scope="local", path=place)
    assert await git.get_config("core.comment", scope="local", path=place) == "x"
    await sandbox.files.write(f"{place}/file1.txt", "changed")
    await git.restore(place, paths=["file1.txt"])
    await git.reset(place, mode="hard", target="HEAD")
    assert (await git.status(place)).is_clean
    with pytest.raises(GitAuthException):
        await git.clone(CLOSED, f"{place}-again")
