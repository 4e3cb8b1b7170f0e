"""``sandbox.git`` of E2B's client against real git servers inside the sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import CommandExitException, GitAuthException, GitUpstreamException, Sandbox

from tests.service import Service

DAEMON, HTTP = 19418, 18080
USER, PASSWORD = "robot", "s3cret-canary"
SERVER = Path(__file__).with_name("git_server.py")
OPEN = f"http://127.0.0.1:{HTTP}/open/project.git"
CLOSED = f"http://127.0.0.1:{HTTP}/closed/project.git"
_SEED = """
set -e
git config --global init.defaultBranch main
git init -q --bare repos/project.git
git -C repos/project.git config http.receivepack true
git clone -q repos/project.git seed 2>/dev/null
cd seed
git config user.name Seed && git config user.email seed@example.org
for n in 1 2 3; do echo "$n" > "file$n.txt"; git add . ; git commit -q -m "commit $n"; done
git push -q origin HEAD:main
git checkout -q -b side && echo side > side.txt && git add . && git commit -q -m side
git push -q origin side
cd .. && rm -rf seed
"""
_WAIT = "for n in $(seq 100); do {probe} && exit 0; sleep 0.1; done; exit 1"


@pytest.fixture(scope="module")
def served(service: Service) -> Iterator[Sandbox]:
    """A sandbox with one repository behind ``git daemon`` and behind smart HTTP."""
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        sandbox.commands.run(_SEED)
        sandbox.files.write("git_server.py", SERVER.read_text())
        sandbox.commands.run(
            f"git daemon --reuseaddr --export-all --enable=receive-pack --listen=127.0.0.1 "
            f"--port={DAEMON} --base-path=/home/user/repos /home/user/repos",
            background=True,
            timeout=0,
        )
        sandbox.commands.run(
            f"python3 git_server.py {HTTP} /home/user/repos {USER} {PASSWORD}",
            background=True,
            timeout=0,
        )
        for url in (f"git://127.0.0.1:{DAEMON}/project.git", OPEN):
            sandbox.commands.run(_WAIT.format(probe=f"git ls-remote -q {url} >/dev/null 2>&1"))
        sandbox.git.configure_user("Tester", "tester@example.org")
        yield sandbox
    finally:
        sandbox.kill()


@pytest.fixture
def place(served: Sandbox, request: pytest.FixtureRequest) -> str:
    """Where a test may clone to."""
    return "/home/user/work/" + re.sub(r"\W+", "-", request.node.name)


def subjects(sandbox: Sandbox, repository: str) -> list[str]:
    return sandbox.commands.run(f"git -C {repository} log --format=%s").stdout.splitlines()


@pytest.mark.parametrize("url", [f"git://127.0.0.1:{DAEMON}/project.git", OPEN])
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
    git.clone(f"git://127.0.0.1:{DAEMON}/project.git", place)
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


def test_secrets_do_not_stay_in_arguments_or_logs(served: Sandbox, service: Service) -> None:
    server = f"git_server.py {HTTP}"
    running = served.commands.run("ps -ww -eo args", user="root").stdout
    with_secret = [line for line in running.splitlines() if PASSWORD in line]
    assert all(server in line for line in with_secret)  # it was given its account so
    log = service.data.parent / "log"
    assert PASSWORD not in log.read_text()
