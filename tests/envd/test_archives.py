"""``/files/archive``: directories up and down as tar streams, and no way out of them."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import Sandbox
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import code_interpreter as ours
from tests.envd import supervisors
from tests.service import Service


@dataclass
class Archive:
    """The two requests, with a sandbox's token."""

    sandbox: Sandbox
    http: httpx.Client

    def get(self, path: str, **query: str) -> httpx.Response:
        return self.http.get("/files/archive", params={"path": path, **query})

    def post(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        return self.http.post(
            "/files/archive", params={"path": path}, content=content, headers=headers
        )

    def names(self, path: str) -> list[str]:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as opened:
            return opened.getnames()


@pytest.fixture(scope="module")
def archive(service: Service) -> Iterator[Archive]:
    sandbox = Sandbox.create(timeout=600, **service.options)
    headers = {
        "E2b-Sandbox-Id": sandbox.sandbox_id,
        "E2b-Sandbox-Port": "49983",
        "X-Access-Token": str(sandbox._envd_access_token),
    }
    try:
        with httpx.Client(
            base_url=service.url, headers=headers, timeout=60, trust_env=False
        ) as http:
            yield Archive(sandbox, http)
    finally:
        sandbox.kill()


Fill = Callable[[tarfile.TarFile], None]


def made(fill: Fill) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as opened:
        fill(opened)
    return content.getvalue()


def file_entry(name: str, content: bytes = b"x", mode: int = 0o644) -> Fill:
    def fill(opened: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), mode
        opened.addfile(entry, io.BytesIO(content))

    return fill


def special_entry(name: str, kind: bytes, link: str = "") -> Fill:
    def fill(opened: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        opened.addfile(entry)

    return fill


def both(*fills: Fill) -> Fill:
    def fill(opened: tarfile.TarFile) -> None:
        for each in fills:
            each(opened)

    return fill


def test_there_and_back(archive: Archive, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "läuft.txt").write_text("ü")
    (source / "deep" / "er" / "large").write_bytes(bytes(range(256)) * 20_000)
    (source / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (source / "deep" / "run.sh").chmod(0o755)
    (source / "link").symlink_to("deep/run.sh")
    (source / ("n" * 200)).write_text("a long name")
    content = made(lambda opened: opened.add(source, arcname="."))

    answer = archive.post("there", content)
    assert answer.status_code == 200, answer.text
    sizes = sum(each.stat().st_size for each in source.rglob("*") if not each.is_symlink()
                and each.is_file())  # fmt: skip
    assert answer.json() == {"path": "/home/user/there", "entries": 9, "bytes": sizes}
    listed = archive.sandbox.commands.run(
        "cd there && find . -printf '%P %y %m %u %l\\n' | sort"
    ).stdout.splitlines()
    assert "deep/run.sh f 755 user " in listed
    assert "link l 777 user deep/run.sh" in listed
    assert "empty d 755 user " in listed

    back = tmp_path / "back"
    with tarfile.open(fileobj=io.BytesIO(archive.get("there").content)) as opened:
        opened.extractall(back, filter="data")
    for path in source.rglob("*"):
        twin = back / path.relative_to(source)
        assert path.is_symlink() == twin.is_symlink()
        assert path.is_dir() == twin.is_dir()
        if path.is_file():
            assert path.read_bytes() == twin.read_bytes()


def test_gzip_and_replacement(archive: Archive) -> None:
    archive.sandbox.commands.run("mkdir -p over && echo old > over/a && ln -s /etc/passwd over/b")
    content = gzip.compress(made(both(file_entry("a", b"new"), file_entry("b", b"no link"))))
    answer = archive.post("over", content, **{"Content-Encoding": "gzip"})
    assert answer.status_code == 200, answer.text
    assert archive.sandbox.files.read("over/a") == "new"
    assert archive.sandbox.files.read("over/b") == "no link"
    assert archive.sandbox.files.read("/etc/passwd").startswith("root:")


def test_hard_links(archive: Archive) -> None:
    fill = both(file_entry("one", b"same"), special_entry("sub/two", tarfile.LNKTYPE, "one"))
    assert archive.post("hard", made(fill)).status_code == 200
    assert archive.sandbox.commands.run("stat -c %h hard/sub/two; cat hard/one").stdout == "2\nsame"


def test_other_kinds_are_left_out(archive: Archive) -> None:
    archive.sandbox.commands.run("mkdir -p kinds && mkfifo kinds/fifo && touch kinds/file")
    assert archive.names("kinds") == ["file"]


def test_as_another_user(archive: Archive) -> None:
    answer = archive.http.post(
        "/files/archive", params={"path": "a", "username": "root"}, content=made(file_entry("f"))
    )
    assert answer.json()["path"] == "/root/a"
    assert archive.sandbox.commands.run("sudo stat -c %U /root/a/f").stdout == "root\n"


REFUSED = {
    "up": file_entry("../outside"),
    "up in the middle": file_entry("a/../../outside"),
    "absolute": file_entry("/tmp/outside"),
    "through a link of its own": both(
        special_entry("way", tarfile.SYMTYPE, "/tmp"), file_entry("way/outside")
    ),
    "through a relative link of its own": both(
        special_entry("way", tarfile.SYMTYPE, "../.."), file_entry("way/outside")
    ),
    "a hard link outside": special_entry("outside", tarfile.LNKTYPE, "../../etc/passwd"),
    "an absolute hard link": special_entry("outside", tarfile.LNKTYPE, "/etc/passwd"),
    "a hard link through a link": both(
        special_entry("way", tarfile.SYMTYPE, "/etc"),
        special_entry("outside", tarfile.LNKTYPE, "way/passwd"),
    ),
    "a device": special_entry("device", tarfile.CHRTYPE),
    "a FIFO": special_entry("fifo", tarfile.FIFOTYPE),
    "a file where a directory is": both(
        special_entry("a", tarfile.DIRTYPE), file_entry("a/b"), file_entry("a")
    ),
}


@pytest.mark.parametrize("fill", REFUSED.values(), ids=REFUSED.keys())
def test_refused_entries(archive: Archive, fill: Fill) -> None:
    archive.sandbox.commands.run("rm -rf refused")
    answer = archive.post("refused", made(fill))
    assert (answer.status_code, answer.json()["code"]) == (400, 400), answer.text
    assert not archive.sandbox.files.exists("/tmp/outside")
    assert not archive.sandbox.files.exists("/home/user/outside")
    assert not archive.sandbox.files.exists("/home/outside")


def test_bodies_that_are_no_archive(archive: Archive) -> None:
    for content in (b"", b"no archive " * 500, made(file_entry("f", b"x" * 5000))[:2000]):
        answer = archive.post("nothing", content)
        assert answer.status_code == 400, answer.text
    answer = archive.post("nothing", b"no gzip", **{"Content-Encoding": "gzip"})
    assert answer.status_code == 400


def test_a_name_that_never_ends(archive: Archive) -> None:
    def fill(opened: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo("././@LongLink")
        entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 60_000_000
        opened.addfile(entry, io.BytesIO(b"x" * entry.size))

    answer = archive.post("long", made(fill))
    assert answer.status_code == 400
    assert "headers" in answer.json()["message"]


def test_paths_that_are_no_directories(archive: Archive) -> None:
    archive.sandbox.files.write("plain", "x")
    assert archive.get("none").status_code == 404
    assert archive.get("plain").status_code == 400
    assert archive.post("plain", made(file_entry("f"))).status_code == 400
    for place in ("/proc", "/proc/1", "/run/code-interpreter"):
        assert archive.get(place).status_code == 403, place
        assert archive.post(place, made(file_entry("f"))).status_code == 403, place


def test_a_token_is_needed(archive: Archive) -> None:
    for method in ("GET", "POST"):
        answer = archive.http.request(
            method, "/files/archive", params={"path": "/"}, headers={"X-Access-Token": "wrong"}
        )
        assert answer.status_code == 401


def test_nothing_of_the_supervisors_is_in_an_archive(archive: Archive) -> None:
    archive.sandbox.commands.run("sudo mkdir -p /run/mine && sudo touch /run/mine/file")
    names = archive.names("/run")
    assert "mine/file" in names
    assert not any(name.partition("/")[0] == "code-interpreter" for name in names)


def test_swapping_directories_for_links_does_not_lead_out(archive: Archive) -> None:
    """User code races with the unpacking: what is written comes out below, or not at all."""
    sandbox = archive.sandbox
    sandbox.commands.run("mkdir -p /tmp/trap race/d race/spare && rm -rf /tmp/trap/*")
    swapper = sandbox.commands.run(
        "cd race && while true; do mv -T d e && ln -s /tmp/trap d; rm d; mv -T e d; done",
        background=True,
        timeout=0,
    )
    content = made(both(*[file_entry(f"d/{n}/f", b"x" * 100) for n in range(300)]))
    try:
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            assert archive.post("race", content).status_code in (200, 400)
    finally:
        swapper.kill()
    assert sandbox.commands.run("find /tmp/trap -type f | wc -l").stdout == "0\n"


_PARTS = st.sampled_from(["a", "b", "..", ".", "", "link", "é", "x" * 120])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.lists(_PARTS, min_size=1, max_size=4).map("/".join),
            st.sampled_from(["file", "directory", "link", "hard"]),
            st.sampled_from(["a", "/", "..", "../..", "/tmp", "a/b", "link"]),
        ),
        max_size=6,
    )
)
def test_any_archive_stays_inside(archive: Archive, entries: list[tuple[str, str, str]]) -> None:
    kinds = {"directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}
    fills = [
        file_entry(name) if kind == "file" else special_entry(name, kinds[kind], link)
        for name, kind, link in entries
    ]
    archive.sandbox.files.remove("jail")
    answer = archive.post("jail/inner", made(both(*fills)))
    assert answer.status_code in (200, 400), answer.text
    assert [entry.name for entry in archive.sandbox.files.list("jail")] == ["inner"]
    assert [entry.name for entry in archive.sandbox.files.list("/home")] == ["user"]


@pytest.mark.timeout(180)
def test_a_large_directory_with_flat_memory(archive: Archive) -> None:
    """300 MB in 1,200 files, both ways at once; envd grows by less than 64 MB."""
    sandbox = archive.sandbox
    sandbox.commands.run(
        "mkdir -p large && cd large && head -c 200M /dev/zero > big && "
        "for n in $(seq 1200); do head -c 90000 /dev/zero > f$n; done",
        timeout=60,
    )
    before = supervisors.memory(sandbox.sandbox_id)
    highest = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            highest.append(supervisors.memory(sandbox.sandbox_id))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with archive.http.stream("GET", "/files/archive", params={"path": "large"}) as answer:
            posted = archive.http.post(
                "/files/archive", params={"path": "copy"}, content=answer.iter_bytes(1 << 20)
            )
    finally:
        done.set()
        watching.join()
    assert posted.json() == {
        "path": "/home/user/copy", "entries": 1201, "bytes": 200 * 1024 * 1024 + 1200 * 90_000,
    }  # fmt: skip
    assert max(highest) - before < 64 * 1024 * 1024
    sandbox.commands.run("rm -rf large copy")


@pytest.mark.security
def test_an_archive_that_grows_without_end_ends_at_the_disk(service: Service) -> None:
    """A quarter of a gigabyte of zeros in a megabyte of gzip."""
    limits: Any = {"disk_mb": 64}
    bomb = gzip.compress(made(file_entry("bomb", bytes(1 << 28))), 1)
    with ours.Sandbox.create(timeout=120, **limits, **service.options) as sandbox:
        headers = {
            "E2b-Sandbox-Id": sandbox.sandbox_id,
            "E2b-Sandbox-Port": "49983",
            "X-Access-Token": str(sandbox._envd_access_token),
            "Content-Encoding": "gzip",
        }
        answer = httpx.post(
            f"{service.url}/files/archive?path=bombs", content=bomb, headers=headers, timeout=60
        )
        assert answer.status_code == 507, answer.text
        assert sandbox.run_code("1 + 1").text == "2"
        sandbox.files.remove("bombs")
        sandbox.files.write("small", "there is room again")


@pytest.mark.security
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_archive_has_a_million_entries_at_most(archive: Archive) -> None:
    entry = tarfile.TarInfo("again")
    entry.type = tarfile.DIRTYPE
    bomb = gzip.compress(entry.tobuf() * 1_000_001 + bytes(1024), 1)
    answer = archive.http.post(
        "/files/archive?path=many",
        content=bomb,
        headers={"Content-Encoding": "gzip"},
        timeout=280,
    )
    assert answer.status_code == 400, answer.text
    assert "entries" in answer.json()["message"]
