"""``files.upload_dir`` and ``files.download_dir``: whole directories, and nothing beside them."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from code_interpreter import (
    ArchiveException,
    AsyncSandbox,
    FileNotFoundException,
    InvalidArgumentException,
    NotEnoughSpaceException,
    RequestTimeoutException,
    Sandbox,
    SandboxException,
    SandboxNotRunningException,
    TransferProgress,
    Transferred,
)
from code_interpreter.directories import OnProgress, Tally, leads_out, unpack
from code_interpreter.protocol.archives import BadArchive, Excludes
from tests.service import Service

BIG = 160 * 1024 * 1024
GROWTH = 48 * 1024 * 1024


@pytest.fixture(scope="module")
def sandbox(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=600, **service.options)
    yield made
    made.kill()


@pytest.fixture
def remote() -> str:
    return f"/home/user/{secrets.token_hex(4)}"


def tree_of(directory: Path) -> dict[str, object]:
    """Path → content, target of a link, or None for a directory; with its mode."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = (path.read_bytes(), status.st_mode & 0o777, int(status.st_mtime))
        found[path.relative_to(directory).as_posix()] = content
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    here = tmp_path / "project"
    (here / "src" / "empty").mkdir(parents=True)
    (here / "node_modules" / "thing").mkdir(parents=True)
    (here / "node_modules" / "thing" / "index.js").write_text("nothing")
    (here / "src" / "main.py").write_text("print('hello')\n")
    (here / "src" / "main.pyc").write_bytes(b"\0")
    (here / "src" / "naïve ☃.txt").write_text("snow")
    (here / "run.sh").write_text("#!/bin/sh\necho run\n")
    (here / "run.sh").chmod(0o755)
    (here / "empty").write_bytes(b"")
    (here / "n" / ("x" * 120) / ("y" * 120)).mkdir(parents=True)
    (here / "n" / ("x" * 120) / ("y" * 120) / "deep").write_text("deep")
    (here / "link").symlink_to("src/main.py")
    (here / "src" / "up").symlink_to("../run.sh")
    os.utime(here / "run.sh", (1_600_000_000, 1_600_000_000))
    return here


def test_there_and_back(sandbox: Sandbox, remote: str, project: Path, tmp_path: Path) -> None:
    sent = sandbox.files.upload_dir(project, remote)
    assert (sent.entries, sent.skipped) == (len(tree_of(project)), ())
    assert sandbox.commands.run("./run.sh && readlink link && python3 link", cwd=remote).stdout == (
        "run\nsrc/main.py\nhello\n"
    )
    received = sandbox.files.download_dir(remote, tmp_path / "new" / "back")
    assert received == sent
    assert tree_of(tmp_path / "new" / "back") == tree_of(project)


def test_what_is_there_is_replaced_and_the_rest_stays(
    sandbox: Sandbox, remote: str, project: Path, tmp_path: Path
) -> None:
    sandbox.files.write(f"{remote}/src/main.py", "old and much longer than the new one" * 10)
    sandbox.files.write(f"{remote}/src/other.py", "other")
    sandbox.files.upload_dir(str(project), remote)
    assert sandbox.files.read(f"{remote}/src/main.py") == "print('hello')\n"
    assert sandbox.files.read(f"{remote}/src/other.py") == "other"
    back = tmp_path / "back"
    (back / "src").mkdir(parents=True)
    (back / "src" / "mine").write_text("mine")
    (back / "run.sh").write_text("x" * 1000)
    sandbox.files.download_dir(remote, back)
    assert (back / "run.sh").read_text() == "#!/bin/sh\necho run\n"
    assert (back / "src" / "mine").read_text() == "mine"


def test_excludes(sandbox: Sandbox, remote: str, project: Path, tmp_path: Path) -> None:
    sandbox.files.upload_dir(project, remote, exclude=["node_modules", "*.pyc", "src/na*"])
    names = sandbox.commands.run("find . -mindepth 1 | sort", cwd=remote).stdout
    assert "node_modules" not in names
    assert ".pyc" not in names
    assert "snow" not in names
    assert "./src/main.py\n" in names
    sandbox.files.upload_dir(project, remote)
    sandbox.files.download_dir(remote, tmp_path / "back", exclude=["n", "src/*.py", "empty"])
    back = tree_of(tmp_path / "back")
    assert "src/main.pyc" in back
    assert not {"n", "empty", "src/empty", "src/main.py"} & set(back)
    with pytest.raises(InvalidArgumentException, match="a list of patterns"):
        sandbox.files.upload_dir(project, remote, exclude="node_modules")


def test_progress(sandbox: Sandbox, remote: str, project: Path, tmp_path: Path) -> None:
    (project / "big").write_bytes(b"b" * 5_000_000)
    actions: list[Callable[[OnProgress], Transferred]] = [
        lambda tell: sandbox.files.upload_dir(project, remote, on_progress=tell),
        lambda tell: sandbox.files.download_dir(remote, tmp_path / "back", on_progress=tell),
    ]
    for action in actions:
        told: list[TransferProgress] = []
        total = action(told.append)
        assert (told[-1].entries, told[-1].bytes) == (total.entries, total.bytes)
        assert {each.path for each in told} == set(tree_of(project))
        assert [each.bytes for each in told] == sorted(each.bytes for each in told)
        assert len([each for each in told if each.path == "big"]) >= 5


def test_what_progress_raises_ends_it(sandbox: Sandbox, remote: str, project: Path) -> None:
    class Enough(Exception):
        pass

    def stop(progress: TransferProgress) -> None:
        raise Enough

    with pytest.raises(Enough):
        sandbox.files.upload_dir(project, remote, on_progress=stop)
    with pytest.raises(Enough):
        sandbox.files.download_dir("/etc", project / "etc", on_progress=stop)


def test_links_are_not_followed_up(sandbox: Sandbox, remote: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not to be sent")
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").symlink_to(tmp_path / "secret")
    (here / "directory").symlink_to("..")
    os.mkfifo(here / "fifo")
    sent = sandbox.files.upload_dir(here, remote)
    assert (sent.entries, sent.bytes, sent.skipped) == (2, 0, ("fifo",))
    assert sandbox.commands.run("readlink directory", cwd=remote).stdout == "..\n"


HOSTILE = """
mkdir -p a/b/c inside && cd a
ln -s /etc/passwd absolute
ln -s ../../../outside up
ln -s ../.. b/root-and-more
ln -s b/../../../x winding
ln -s ../../.. b/c/root
ln -s b/c/root/../x through
ln -s ../inside fine
ln -s b/c fine-too
"""


def test_links_that_lead_out_stay_away(sandbox: Sandbox, remote: str, tmp_path: Path) -> None:
    sandbox.files.make_dir(remote)
    sandbox.commands.run(HOSTILE, cwd=remote)
    received = sandbox.files.download_dir(remote, tmp_path / "back")
    assert set(received.skipped) == {"a/absolute", "a/up", "a/winding", "a/through"}
    links = {name for name, what in tree_of(tmp_path / "back").items() if isinstance(what, str)}
    assert links == {"a/b/root-and-more", "a/b/c/root", "a/fine", "a/fine-too"}


def test_nothing_is_written_through_links_that_are_here(
    sandbox: Sandbox, remote: str, tmp_path: Path
) -> None:
    sandbox.files.write(f"{remote}/file", "from the sandbox")
    victim, back = tmp_path / "victim", tmp_path / "back"
    victim.mkdir()
    (victim / "file").write_text("mine")
    back.mkdir()
    (back / "file").symlink_to(victim / "file")
    sandbox.files.download_dir(remote, back)
    assert (back / "file").read_text() == "from the sandbox"
    assert not (back / "file").is_symlink()
    sandbox.files.write(f"{remote}/victim/file", "from the sandbox")
    (back / "victim").symlink_to(victim)
    with pytest.raises(ArchiveException, match="'victim' is a link or a file on this machine"):
        sandbox.files.download_dir(remote, back)
    assert (victim / "file").read_text() == "mine"


Fill = Callable[[tarfile.TarFile], None]


def stream_of(*entries: tarfile.TarInfo) -> Callable[[], bytes]:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as opened:
        for entry in entries:
            opened.addfile(entry, io.BytesIO(b"x" * entry.size))
    content.seek(0)
    return lambda: content.read(10_000)


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.size = 3 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../x")],
        [entry("/tmp/x")],
        [entry("a/../../x")],
        [entry("a", tarfile.SYMTYPE, "b"), entry("a/x")],
        [entry("a"), entry("a/x")],
        [entry("a"), entry("b", tarfile.LNKTYPE, "a")],
        [entry("a", tarfile.FIFOTYPE)],
        [entry("a", tarfile.CHRTYPE)],
        [entry("a", tarfile.GNUTYPE_SPARSE)],
    ],
)
def test_streams_that_are_refused(entries: list[tarfile.TarInfo], tmp_path: Path) -> None:
    with pytest.raises(BadArchive):
        unpack(stream_of(*entries), tmp_path / "inner" / "most", Tally())
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["most"]


@pytest.mark.parametrize("field", ["GNU.sparse.map", "GNU.sparse.size"])
def test_headers_with_numbers_that_are_none(field: str, tmp_path: Path) -> None:
    odd = entry("a")
    odd.pax_headers = {field: "x"}
    with pytest.raises(BadArchive, match="damaged"):
        unpack(stream_of(odd), tmp_path, Tally())


NAMES = st.lists(st.sampled_from(["a", "b", "..", "."]), min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(NAMES, NAMES.map(lambda name: f"/{name}"))
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.builds(entry, NAMES, KINDS, TARGETS), max_size=8))
def test_any_stream_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tarfile.TarInfo]
) -> None:
    """And so does whatever its links lead to."""
    outer = tmp_path_factory.mktemp("outer")
    root = outer / "one" / "two" / "three"
    for each in entries:
        try:
            unpack(stream_of(each), root, Tally())
        except (BadArchive, OSError):
            continue
    assert [path.name for path in outer.iterdir()] == ["one"] if entries else True
    for path in root.rglob("*"):
        if path.is_symlink():
            try:
                assert path.resolve().is_relative_to(root)
            except (RuntimeError, OSError):
                continue  # a circle
    assert [path.name for path in outer.rglob("*") if path.is_file()] == [
        path.name for path in root.rglob("*") if path.is_file()
    ]


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("l", "a", False),
        ("l", ".", False),
        ("l", "..", True),
        ("a/l", "..", False),
        ("a/l", "../..", True),
        ("a/l", "../b/../c", True),
        ("l", "/a", True),
        ("l", "a/..", True),
    ],
)
def test_where_a_link_leads(path: str, target: str, out: bool) -> None:
    assert leads_out(path, target) is out


@pytest.mark.parametrize(
    ("pattern", "covered", "left"),
    [
        ("*.pyc", {"a.pyc", "x/b.pyc"}, {"a.py"}),
        ("node_modules", {"node_modules", "x/node_modules"}, {"node_modules2"}),
        ("data/raw*", {"data/raw", "data/raw2"}, {"x/data/raw", "raw"}),
        ("build/", {"build", "x/build"}, {"builds"}),
        ("/build/x", {"build/x"}, {"y/build/x"}),
    ],
)
def test_patterns(pattern: str, covered: set[str], left: set[str]) -> None:
    excludes = Excludes([pattern])
    assert {path for path in covered | left if excludes.cover(path)} == covered


def test_errors(sandbox: Sandbox, remote: str, project: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentException, match="is not a directory on this machine"):
        sandbox.files.upload_dir(project / "run.sh", remote)
    with pytest.raises(FileNotFoundException, match="does not exist"):
        sandbox.files.download_dir(remote, tmp_path / "back")
    sandbox.files.write(f"{remote}/src", "a file in the way")
    with pytest.raises(InvalidArgumentException, match="'src' leads through a link or a file"):
        sandbox.files.upload_dir(project, remote)
    with pytest.raises(InvalidArgumentException, match="not a directory"):
        sandbox.files.download_dir(f"{remote}/src", tmp_path / "back")
    with pytest.raises(SandboxException, match="403"):
        sandbox.files.download_dir("/proc/self", tmp_path / "back")


def test_as_another_user(sandbox: Sandbox, project: Path, tmp_path: Path) -> None:
    sandbox.files.upload_dir(project, "mine", user="root")
    assert sandbox.commands.run("stat -c %U mine/run.sh", user="root", cwd="/root").stdout == (
        "root\n"
    )
    sandbox.files.download_dir("mine", tmp_path / "back", user="root")
    assert tree_of(tmp_path / "back") == tree_of(project)


def test_a_time_out(sandbox: Sandbox, remote: str, project: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RequestTimeoutException):
        sandbox.files.upload_dir(
            project, remote, request_timeout=0.4, on_progress=lambda _: time.sleep(0.2)
        )
    assert time.monotonic() - started < 5


def test_a_full_disk(service: Service, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(64_000_000))
    with Sandbox.create(**service.options) as sandbox:
        free = int(sandbox.commands.run("df --output=avail -B1 . | tail -1").stdout)
        sandbox.commands.run(f"fallocate -l {free - 30_000_000} /filler", user="root", timeout=60)
        with pytest.raises(NotEnoughSpaceException, match="not enough disk space"):
            sandbox.files.upload_dir(tmp_path, "here")


def test_a_sandbox_that_is_killed(service: Service, project: Path, tmp_path: Path) -> None:
    (project / "big").write_bytes(bytes(64_000_000))
    with Sandbox.create(**service.options) as sandbox:
        threading.Timer(0.5, sandbox.kill).start()
        with pytest.raises(SandboxNotRunningException):
            sandbox.files.upload_dir(project, "x", on_progress=lambda _: time.sleep(0.05))
        with pytest.raises(SandboxNotRunningException, match="was not found"):
            sandbox.files.download_dir("x", tmp_path / "back")


async def test_asynchronously(service: Service, project: Path, tmp_path: Path) -> None:
    told: list[TransferProgress] = []

    async def tell(progress: TransferProgress) -> None:
        await asyncio.sleep(0)
        told.append(progress)

    async with await AsyncSandbox.create(**service.options) as sandbox:
        sent = await sandbox.files.upload_dir(project, "there", on_progress=tell)
        back = await sandbox.files.download_dir("there", tmp_path / "b", on_progress=told.append)
        assert sent == back
        assert tree_of(tmp_path / "b") == tree_of(project)
        assert len(told) >= 2 * sent.entries
        with pytest.raises(FileNotFoundException):
            await sandbox.files.download_dir("none", tmp_path / "b")


async def test_who_is_cancelled_stops(service: Service, tmp_path: Path) -> None:
    async with await AsyncSandbox.create(**service.options) as sandbox:
        await sandbox.commands.run("mkdir many; cd many; fallocate -l 200M big; touch $(seq 500)")
        told: list[TransferProgress] = []

        async def slowly(progress: TransferProgress) -> None:
            told.append(progress)
            await asyncio.sleep(0.05)

        task = asyncio.create_task(
            sandbox.files.download_dir("many", tmp_path / "back", on_progress=slowly)
        )
        while len(told) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.3)
        seen = len(told)
        await asyncio.sleep(0.5)
        assert len(told) == seen
        assert len(list((tmp_path / "back").iterdir())) < 500


@pytest.mark.timeout(180)
def test_memory_stays_flat(sandbox: Sandbox, remote: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with (here / "big").open("wb") as file:
        file.truncate(BIG)
    me = psutil.Process()
    before = highest = me.memory_info().rss

    def look(progress: TransferProgress) -> None:
        nonlocal highest
        highest = max(highest, me.memory_info().rss)

    assert sandbox.files.upload_dir(here, remote, on_progress=look).bytes == BIG
    back = sandbox.files.download_dir(remote, tmp_path / "back", on_progress=look)
    assert back.bytes == BIG
    assert highest - before < GROWTH
    sandbox.files.remove(remote)
