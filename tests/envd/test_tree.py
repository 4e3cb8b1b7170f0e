"""The files that clients reach, against a model, and against somebody who swaps links."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from code_interpreter.envd.composing import compose
from code_interpreter.envd.filesystem import AlreadyThere, Filesystem
from code_interpreter.envd.moving import Mover
from code_interpreter.envd.tree import Tree
from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import User, current_user

SECRET = "canary-of-the-supervisors"
ATTEMPTS = {"read": 50_000, "write": 20_000, "list": 10_000, "make": 10_000, "remove": 10_000}
ATTEMPTS["watch"] = 5000
ATTEMPTS["compose"] = 3000
ATTEMPTS["move"] = 1000  # a file system may write a file out before another takes its place


class World:
    """Files of a client, and beside them those of the supervisors."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="ci-"))
        self.home, self.private = self.top / "home", self.top / "private"
        self.home.mkdir()
        self.private.mkdir()
        (self.private / "secret").write_text(SECRET)
        (self.private / "deep").mkdir()
        (self.private / "deep/secret").write_text(SECRET)
        config = GuestConfig(False, str(self.home), state_directory=str(self.private))
        self.user: User = current_user(self.home)
        self.tree = Tree(config)
        mover = Mover(Launcher(None), self.user, os.environ["PATH"])
        self.files = Filesystem(self.tree, mover)

    def read(self, path: str) -> str:
        with os.fdopen(self.tree.open_to_read(path)) as file:
            return file.read()

    def write(self, path: str, content: str) -> None:
        with os.fdopen(self.tree.open_to_write(path, self.user), "w") as file:
            file.write(content)

    def is_unharmed(self) -> bool:
        found = {
            str(path.relative_to(self.private)): path.is_file() and path.read_text()
            for path in self.private.rglob("*")
        }
        return found == {"secret": SECRET, "deep": False, "deep/secret": SECRET}

    def close(self) -> None:
        for path in self.home.iterdir():  # of any depth
            self.files.remove(str(path))
        shutil.rmtree(self.top)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


# --- a model ----------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
Model = dict[str, str | None]
"""Path → content; None for a directory."""


class Files(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.model: Model = {}

    def teardown(self) -> None:
        self.world.close()

    def path(self, path: str) -> str:
        return f"{self.world.home}/{path}"

    def parents(self, path: str) -> list[str]:
        names = path.split("/")
        return ["/".join(names[:count]) for count in range(1, len(names))]

    def blocked(self, path: str) -> bool:
        return any(isinstance(self.model.get(above), str) for above in self.parents(path))

    def below(self, path: str) -> list[str]:
        return [name for name in self.model if name == path or name.startswith(path + "/")]

    @rule(path=PATHS, content=st.text("xyz", max_size=3))
    def write(self, path: str, content: str) -> None:
        if self.blocked(path) or (path in self.model and self.model[path] is None):
            with pytest.raises((IsADirectoryError, NotADirectoryError)):
                self.world.write(self.path(path), content)
            return
        self.world.write(self.path(path), content)
        self.model |= dict.fromkeys(self.parents(path))
        self.model[path] = content

    @rule(path=PATHS)
    def make_directory(self, path: str) -> None:
        make = partial(self.world.files.make_directory, self.path(path), self.world.user)
        if path in self.model:
            with pytest.raises(AlreadyThere if self.model[path] is None else FileExistsError):
                make()
        elif self.blocked(path):
            with pytest.raises(NotADirectoryError):
                make()
        else:
            make()
            self.model |= dict.fromkeys([*self.parents(path), path])

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        if self.blocked(path):
            with pytest.raises(NotADirectoryError):
                self.world.files.remove(self.path(path))
            return
        self.world.files.remove(self.path(path))
        for name in self.below(path):
            del self.model[name]

    @rule(old=PATHS, new=PATHS)
    def move(self, old: str, new: str) -> None:
        move = partial(self.world.files.move, self.path(old), self.path(new), self.world.user)
        if not self.can_move(old, new):
            with pytest.raises(OSError, match=r"."):
                move()
            if old in self.model and not self.blocked(new):
                self.model = dict.fromkeys(self.parents(new)) | self.model
            return
        move()
        self.model = dict.fromkeys(self.parents(new)) | self.model
        moved = {name: self.model.pop(name) for name in self.below(old)}
        self.model.pop(new, None)
        self.model |= {new + name[len(old) :]: what for name, what in moved.items()}

    def can_move(self, source: str, target: str) -> bool:
        if source not in self.model or self.blocked(target):
            return False
        if source == target:
            return True
        if target.startswith(source + "/"):
            return False
        if target not in self.model:
            return True
        if self.model[source] is None:
            return self.model[target] is None and self.below(target) == [target]
        return isinstance(self.model[target], str)

    @invariant()
    def is_as_the_model(self) -> None:
        listed = self.world.files.list(str(self.world.home), 10)
        names = [entry.path.removeprefix(f"{self.world.home}/") for entry in listed]
        assert sorted(names) == sorted(self.model)
        assert names == sorted(names, key=lambda name: name.split("/"))
        for name, content in self.model.items():
            if content is not None:
                assert self.world.read(self.path(name)) == content


Files.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestFiles = Files.TestCase


# --- links ------------------------------------------------------------------------------


def test_no_way_to_the_supervisors(world: World) -> None:
    (world.home / "direct").symlink_to(world.private / "secret")
    (world.home / "directory").symlink_to(world.private)
    (world.home / "hop").symlink_to("directory/deep")
    (world.home / "parent").symlink_to("..")
    (world.home / "new").symlink_to(world.private / "new")
    mine = str(world.home / "mine")
    world.write(mine, "x")
    below = ["direct", "directory/secret", "hop/secret", "parent/private/secret"]
    for name in [*below, "directory/../home/directory/secret"]:
        path = f"{world.home}/{name}"
        with pytest.raises(PermissionError):
            world.read(path)
        with pytest.raises(PermissionError):
            world.write(path, "x")
    for name in [*below[1:], "directory/new"]:
        path = f"{world.home}/{name}"
        for call in (
            lambda path=path: world.files.remove(path),
            lambda path=path: world.files.move(path, mine, world.user),
            lambda path=path: world.files.move(mine, path, world.user),
            lambda path=path: world.files.make_directory(path + "/x", world.user),
            lambda path=path: world.files.list(path.rpartition("/")[0], 1),
            lambda path=path: world.files.watch(path.rpartition("/")[0], True),
            lambda path=path: world.files.describe(path),
        ):
            with pytest.raises((PermissionError, NotADirectoryError)):
                call()
    with pytest.raises(PermissionError):
        world.write(f"{world.home}/new", "x")
    assert world.is_unharmed()


def _make_deep(top: Path, name: str, levels: int) -> None:
    above = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=above)
        below = os.open(name, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)


def test_directories_deeper_than_any_path(world: World) -> None:
    """What is told of them is bounded, and they can be removed."""
    _make_deep(world.home, "x" * 250, 400)
    assert len(world.files.list(str(world.home), 300)) == 300
    with pytest.raises(OSError, match="list fewer levels"):
        world.files.list(str(world.home), 400)
    world.files.watch(str(world.home), True)._inotify.close()
    world.files.remove(f"{world.home}/{'x' * 250}")
    assert world.files.list(str(world.home), 400) == []


def test_a_deep_directory_is_moved_into_a_watched_one(world: World) -> None:
    (world.home / "watched").mkdir()
    watch = world.files.watch(f"{world.home}/watched", True)
    with closing(watch._inotify):
        _make_deep(world.top, "d", 1500)
        (world.top / "d").rename(world.home / "watched/d")
        changes = watch.drain()
    assert [change.name.count("/") for change in changes] == list(range(1500))


SWAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
directory = os.open(sys.argv[1], os.O_RDONLY)
print("swapping", flush=True)
while True:  # RENAME_EXCHANGE: there is never nothing
    libc.renameat2(directory, b"there", directory, b"link", 2)
"""


@pytest.fixture
def swapped(world: World) -> Iterator[str]:
    """A path whose directory is, by turns, the client's own and a link to the supervisors'."""
    (world.home / "there").mkdir()
    (world.home / "there/secret").write_text("open to all")
    (world.home / "link").symlink_to(world.private)
    command = [sys.executable, "-c", SWAPPER, str(world.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"{world.home}/there"
        process.kill()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ATTEMPTS)
def test_whoever_swaps_links_wins_nothing(world: World, swapped: str, kind: str) -> None:
    outcomes = set()
    for number in range(ATTEMPTS[kind]):
        with suppress(OSError, AlreadyThere):
            outcomes.add(_try(world, swapped, kind, number))
    assert world.is_unharmed()
    assert SECRET not in outcomes
    assert outcomes, "the client's own files were never met"


def _try(world: World, path: str, kind: str, number: int) -> object:
    match kind:
        case "read":
            return world.read(f"{path}/secret")
        case "write":
            world.write(f"{path}/secret", "x")
        case "list":
            names = tuple(entry.name for entry in world.files.list(path, 2))
            assert "deep" not in names
            return names
        case "watch":
            watch = world.files.watch(path, True)
            assert "deep" not in watch._directories.values()
            watch._inotify.close()
        case "make":
            world.files.make_directory(f"{path}/{number}", world.user)
        case "move":
            world.write(f"{world.home}/moved", "x")
            world.files.move(f"{world.home}/moved", f"{path}/deep", world.user)
        case "remove":
            world.files.remove(f"{path}/deep")
        case "compose":
            return _compose(world, path)
    return kind


def _compose(world: World, path: str) -> str:
    """From what is swapped, and to it."""
    aside, whole = f"{world.home}/aside", f"{world.home}/whole"
    world.write(aside, "x")
    with suppress(OSError):
        compose(world.tree, [aside], f"{path}/composed", world.user)
    world.write(aside, "open to all")
    world.write(f"{path}/part", "x")
    compose(world.tree, [aside, f"{path}/part"], whole, world.user)
    return world.read(whole)
