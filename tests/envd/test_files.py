"""``sandbox.files`` of E2B's Python client against a real sandbox; watching is elsewhere."""

from __future__ import annotations

import io
import os
import secrets
import tempfile
import time

import httpx
import psutil
import pytest
from e2b import (
    AuthenticationException,
    FileNotFoundException,
    FileType,
    InvalidArgumentException,
    NotEnoughSpaceException,
    Sandbox,
    SandboxException,
)
from e2b.sandbox.filesystem.filesystem import WriteEntry

from tests.envd.supervisors import memory, peak, processes, reset_peak
from tests.service import Service

NAMES = 'plain|sp ace|quo"te|per%22cent%41|ünï|new\nline|back\\slash|a;b=c|-rf|~x|…|...'.split("|")
REFUSED = r"permission denied|too many levels"


# --- reading and writing ----------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "text\n", "ünïcödé €\0\r\n", "x" * 3_000_000])
def test_text(box: Sandbox, place: str, content: str) -> None:
    info = box.files.write(f"{place}/file", content)
    assert (info.path, info.name, info.type) == (f"{place}/file", "file", FileType.FILE)
    assert box.files.read(f"{place}/file") == content


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 5_000_001])
def test_bytes(box: Sandbox, place: str, size: int, gzip: bool) -> None:
    content = secrets.token_bytes(size)
    box.files.write(f"{place}/file", content, gzip=gzip)
    assert box.files.read(f"{place}/file", format="bytes", gzip=gzip) == content


@pytest.mark.parametrize("multipart", [False, True])
def test_from_a_stream(box: Sandbox, place: str, multipart: bool) -> None:
    content = secrets.token_bytes(3_000_000)
    box.files.write(f"{place}/file", io.BytesIO(content), use_octet_stream=not multipart)
    assert b"".join(box.files.read(f"{place}/file", format="stream")) == content


def test_overwriting_with_less(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/file", "x" * 100)
    box.files.write(f"{place}/file", "short")
    assert box.files.read(f"{place}/file") == "short"


def test_many_at_once(box: Sandbox, place: str) -> None:
    names = [f"{place}/{number}/ä 'quoted\".txt" for number in range(20)]
    written = box.files.write_files([{"path": name, "data": name} for name in names])
    assert [info.path for info in written] == names
    assert [box.files.read(name) for name in names] == names


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("multipart", [False, True])
def test_names(box: Sandbox, place: str, name: str, multipart: bool) -> None:
    if multipart and "%22" in name:
        name = name.replace("%22", "%20")  # there the client's %22 is a quotation mark
    path = f"{place}/{name}"
    box.files.write(path, name, use_octet_stream=not multipart)
    assert box.files.read(path) == name
    assert [entry.name for entry in box.files.list(place)] == [name]
    assert box.files.get_info(path).path == path
    box.files.rename(path, f"{place}/renamed")
    box.files.remove(f"{place}/renamed")
    assert box.files.list(place) == []


def test_where_paths_start(box: Sandbox) -> None:
    box.files.write("rel/ative", "1")
    assert box.files.read("~/rel/../rel/./ative") == "1"
    assert box.files.read("/home/user/rel//ative") == "1"
    assert box.files.get_info("~").path == "/home/user"
    box.files.write("of-root", "2", user="root")
    assert box.files.read("/root/of-root") == "2"


def test_owners_and_modes(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/new/sub/file", "x")
    for path, mode in (("new", 0o755), ("new/sub", 0o755), ("new/sub/file", 0o644)):
        info = box.files.get_info(f"{place}/{path}")
        assert (info.owner, info.group, info.mode) == ("user", "user", mode)
    box.files.write(f"{place}/roots", "x", user="root")
    assert box.files.get_info(f"{place}/roots").owner == "root"
    box.commands.run(f"chmod 750 {place}/new/sub/file")
    box.files.write(f"{place}/new/sub/file", "again", user="root")
    info = box.files.get_info(f"{place}/new/sub/file")
    assert (info.owner, info.mode, info.permissions) == ("root", 0o750, "-rwxr-x---")


def test_files_whose_size_is_a_fiction(box: Sandbox) -> None:
    assert len(box.files.read("/proc/sys/kernel/random/boot_id").strip()) == 36
    assert box.files.read("/proc/version").startswith("Linux")
    assert box.files.read("/sys/class/net/lo/mtu") == "65536\n"


def test_what_is_not_there(box: Sandbox) -> None:
    with pytest.raises(FileNotFoundException, match="path '/no/such' does not exist"):
        box.files.read("/no/such")
    with pytest.raises(FileNotFoundException, match="path '/no/such' does not exist"):
        box.files.get_info("/no/such")


def test_a_directory_is_no_file(box: Sandbox, place: str) -> None:
    with pytest.raises(InvalidArgumentException, match="is a directory"):
        box.files.read(place)
    with pytest.raises(InvalidArgumentException, match="is a directory"):
        box.files.write(place, "x")
    box.files.write(f"{place}/file", "x")
    with pytest.raises(InvalidArgumentException, match="is not a directory"):
        box.files.write(f"{place}/file/below", "x")
    with pytest.raises(InvalidArgumentException, match="is not a directory"):
        box.files.read(f"{place}/file/below")


def test_an_unknown_user(box: Sandbox) -> None:
    for call in (box.files.read, box.files.get_info, box.files.list, box.files.remove):
        with pytest.raises(AuthenticationException, match="invalid username: 'nobody-here'"):
            call("x", user="nobody-here")
    with pytest.raises(AuthenticationException, match="invalid username: 'nobody-here'"):
        box.files.write("x", "x", user="nobody-here")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to measure a process in a sandbox")
@pytest.mark.parametrize("multipart", [False, True])
def test_large_files_take_little_memory(box: Sandbox, place: str, multipart: bool) -> None:
    size = 300_000_000
    with tempfile.TemporaryFile() as source:
        source.truncate(size)
        before = memory(box.sandbox_id)
        box.files.write(f"{place}/large", source, use_octet_stream=not multipart)
        assert box.files.get_info(f"{place}/large").size == size
    assert sum(map(len, box.files.read(f"{place}/large", format="stream"))) == size
    assert memory(box.sandbox_id) - before < 32 * 1024 * 1024
    box.files.remove(f"{place}/large")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to measure a process in a sandbox")
@pytest.mark.parametrize("coding", ["octets", "multipart", "gzip"])
def test_two_gigabytes_take_little_memory(service: Service, coding: str) -> None:
    """Highest memory, of the supervisors, the host and the client, from before to after."""
    size, most = 2_000_000_000, 64 * 1024 * 1024
    sandbox = Sandbox.create(timeout=600, **service.options)
    try:
        with tempfile.TemporaryFile() as source:
            source.truncate(size)
            sandbox.files.write("warm", b"x")
            measured = [*processes(sandbox.sandbox_id), psutil.Process(service.process.pid)]
            measured.append(psutil.Process())
            before = [reset_peak(process.pid) for process in measured]
            sandbox.files.write(
                "large",
                source,
                use_octet_stream=coding != "multipart",
                gzip=coding == "gzip",
                request_timeout=0,
            )
        assert sandbox.files.get_info("large").size == size
        stream = sandbox.files.read("large", format="stream", request_timeout=500)
        assert sum(map(len, stream)) == size
        grown = [peak(each.pid) - was for each, was in zip(measured, before, strict=True)]
        assert max(grown) < most, grown
    finally:
        sandbox.kill()


@pytest.mark.parametrize("multipart", [False, True])
def test_five_hundred_files_in_one_call(box: Sandbox, place: str, multipart: bool) -> None:
    names = [f"{place}/{number}" for number in range(500)]
    files = [WriteEntry(path=name, data=f"content of {name}") for name in names]
    written = box.files.write_files(files, use_octet_stream=not multipart)
    assert [each.path for each in written] == names
    together = box.commands.run(f"cat $(printf '{place}/%s ' $(seq 0 499))").stdout
    assert together == "".join(f"content of {name}" for name in names)


def test_a_disk_that_fills_up_while_it_comes(service: Service) -> None:
    headers = {"X-Sandbox-Disk-Size-MB": "64"}
    sandbox = Sandbox.create(timeout=120, api_headers=headers, **service.options)
    try:
        for multipart in (False, True):
            with tempfile.TemporaryFile() as source:
                source.truncate(300_000_000)
                with pytest.raises(NotEnoughSpaceException, match="not enough disk space"):
                    sandbox.files.write("large", source, use_octet_stream=not multipart)
            assert sandbox.files.get_info("large").size < 64 * 1024 * 1024
            sandbox.files.remove("large")
            sandbox.files.write("small", "there is room again")
        sandbox.commands.run("truncate -s 1G sparse")
        headers = {
            "E2b-Sandbox-Id": sandbox.sandbox_id,
            "E2b-Sandbox-Port": "49983",
            "X-Access-Token": str(sandbox._envd_access_token),
        }
        body = {"source_paths": ["small", "sparse"], "destination": "whole/one"}
        answer = httpx.post(f"{service.url}/files/compose", json=body, headers=headers, timeout=60)
        assert answer.status_code == 507, answer.text
        assert sandbox.files.list("whole") == []
        assert sandbox.files.read("small") == "there is room again"
    finally:
        sandbox.kill()


# --- special files ----------------------------------------------------------------------


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "path", ["/dev/null", "/dev/zero", "/dev/tty", "fifo", "socket", "/dev/ptmx"]
)
def test_nothing_hangs_on_what_is_no_file(box: Sandbox, path: str) -> None:
    box.commands.run(
        "test -e fifo || mkfifo fifo; test -e socket || "
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'"
    )
    with pytest.raises(InvalidArgumentException, match="not a regular file"):
        box.files.read(path)
    with pytest.raises(InvalidArgumentException, match="not a regular file"):
        box.files.write(path, "x")
    assert box.files.exists(path)


@pytest.mark.parametrize(
    "path",
    [
        "/proc/1/environ",
        "/proc/self/mem",
        "/proc/self/environ",
        "/proc/self/root/etc/passwd",
        "/proc/1/root/etc/passwd",
        "/proc/self/fd/3",
        "/run/code-interpreter/envd.json",
        "/run/code-interpreter/../code-interpreter/envd.json",
    ],
)
def test_the_supervisors_are_out_of_reach(box: Sandbox, place: str, path: str) -> None:
    box.commands.run(f"ln -s {path} {place}/link; ln -s $(dirname {path}) {place}/directory")
    for name in (path, f"{place}/link", f"{place}/directory/{path.rpartition('/')[2]}"):
        with pytest.raises(SandboxException, match=REFUSED):
            box.files.read(name)
        with pytest.raises(SandboxException, match=REFUSED):
            box.files.write(name, "x")


def test_processes_of_the_user_can_be_looked_at(box: Sandbox) -> None:
    handle = box.commands.run("exec sleep 100", background=True)
    command = f"/proc/{handle.pid}/cmdline"
    box.commands.run(f"until grep -q ^sleep {command}; do sleep 0.05; done", timeout=20)
    assert box.files.read(command) == "sleep\x00100\x00"
    with pytest.raises(SandboxException, match="permission denied"):
        box.files.write(f"/proc/{handle.pid}/oom_score_adj", "0")
    handle.kill()


def test_links(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/target", "content")
    box.commands.run(
        "ln -s target link; ln -s . loop; ln -s nowhere/sub dangling; ln -s a b; ln -s b a",
        cwd=place,
    )
    assert box.files.read(f"{place}/loop/loop/link") == "content"
    box.files.write(f"{place}/link", "through")
    assert box.files.read(f"{place}/target") == "through"
    info = box.files.get_info(f"{place}/link")
    assert info.type is FileType.SYMLINK
    assert info.symlink_target == f"{place}/target"
    assert info.permissions.startswith("L")
    box.files.write(f"{place}/dangling", "made")
    assert box.files.read(f"{place}/nowhere/sub") == "made"
    with pytest.raises(InvalidArgumentException, match="too many levels"):
        box.files.read(f"{place}/a")
    with pytest.raises(InvalidArgumentException, match="too many levels"):
        box.files.write(f"{place}/a", "x")
    box.files.remove(f"{place}/loop")
    assert box.files.exists(f"{place}/target")


# --- directories ------------------------------------------------------------------------


def test_making_directories(box: Sandbox, place: str) -> None:
    assert box.files.make_dir(f"{place}/a/b/c") is True
    assert box.files.make_dir(f"{place}/a/b/c") is False
    assert box.files.get_info(f"{place}/a/b").type is FileType.DIR
    box.files.write(f"{place}/file", "x")
    with pytest.raises(InvalidArgumentException, match="there is a file"):
        box.files.make_dir(f"{place}/file")
    with pytest.raises(InvalidArgumentException, match="is not a directory"):
        box.files.make_dir(f"{place}/file/sub")


def test_listing(box: Sandbox, place: str) -> None:
    for path in ("b/2/x", "b/1", "a/f", "c"):
        box.files.write(f"{place}/{path}", "x")
    box.commands.run("ln -s b link", cwd=place)

    def names(depth: int) -> list[str]:
        return [entry.path.removeprefix(place + "/") for entry in box.files.list(place, depth)]

    assert names(1) == ["a", "b", "c", "link"]
    assert names(2) == ["a", "a/f", "b", "b/1", "b/2", "c", "link"]
    assert names(9) == ["a", "a/f", "b", "b/1", "b/2", "b/2/x", "c", "link"]
    assert [entry.path for entry in box.files.list(f"{place}/link")] == [
        f"{place}/link/1",
        f"{place}/link/2",
    ]
    with pytest.raises(InvalidArgumentException, match="is not a directory"):
        box.files.list(f"{place}/c")
    with pytest.raises(FileNotFoundException, match="does not exist"):
        box.files.list(f"{place}/d")
    with pytest.raises(InvalidArgumentException):
        box.files.list(place, depth=0)


def test_listing_names_that_are_not_unicode(box: Sandbox, place: str) -> None:
    box.commands.run(r"touch $'\xff.txt' good; mkdir $'d\xfe'; touch $'d\xfe/in'", cwd=place)
    assert [entry.name for entry in box.files.list(place, 3)] == [
        "d\ufffd",
        "in",
        "good",
        "\ufffd.txt",
    ]


def test_a_thousand_files(box: Sandbox, place: str) -> None:
    box.commands.run("touch $(seq 1000)", cwd=place)
    assert len(box.files.list(place)) == 1000


def test_exists(box: Sandbox, place: str) -> None:
    assert box.files.exists(place) is True
    assert box.files.exists(f"{place}/no") is False
    assert box.files.exists("/") is True
    box.commands.run("ln -s nowhere dangling", cwd=place)
    assert box.files.exists(f"{place}/dangling") is True


def test_info(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/file", "12345")
    box.commands.run("touch -d 2020-01-02T03:04:05.678Z file; chmod 6755 file", cwd=place)
    info = box.files.get_info(f"{place}/file")
    assert (info.name, info.path, info.size) == ("file", f"{place}/file", 5)
    assert info.modified_time.isoformat() == "2020-01-02T03:04:05.678000+00:00"
    assert (info.mode, info.permissions) == (0o755, "ugrwxr-xr-x")
    assert box.files.get_info("/tmp").permissions == "dtrwxrwxrwx"
    assert box.files.get_info("/").name == "/"


# --- moving and removing ----------------------------------------------------------------


def test_renaming(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/old", "x")
    entry = box.files.rename(f"{place}/old", f"{place}/new/deep/name")
    assert entry.path == f"{place}/new/deep/name"
    assert not box.files.exists(f"{place}/old")
    box.files.rename(f"{place}/new", f"{place}/moved")
    assert box.files.read(f"{place}/moved/deep/name") == "x"
    box.files.write(f"{place}/other", "y")
    box.files.rename(f"{place}/other", f"{place}/moved/deep/name")
    assert box.files.read(f"{place}/moved/deep/name") == "y"
    with pytest.raises(FileNotFoundException, match=f"path '{place}/old' does not exist"):
        box.files.rename(f"{place}/old", f"{place}/x")
    with pytest.raises(SandboxException, match=r"is a directory|not empty"):
        box.files.rename(f"{place}/moved/deep/name", f"{place}/moved/deep")
    with pytest.raises(InvalidArgumentException):
        box.files.rename(f"{place}/moved", f"{place}/moved/inside")


@pytest.mark.parametrize("target", ["/dev/shm/moved", "/code/moved", "/tmp/moved"])
def test_renaming_across_file_systems(box: Sandbox, place: str, target: str) -> None:
    box.commands.run("mkdir -p tree/sub; mkfifo tree/fifo; ln -s sub tree/link", cwd=place)
    box.commands.run(
        "echo x > tree/sub/f; sudo chown root tree/sub/f; chmod 700 tree/sub", cwd=place
    )
    box.commands.run(f"sudo rm -rf {target}")
    box.files.rename(f"{place}/tree", target)
    assert not box.files.exists(f"{place}/tree")
    assert [entry.name for entry in box.files.list(target, 2)] == ["link", "sub", "f"]
    assert box.commands.run(f"test -p {target}/fifo").exit_code == 0
    assert box.files.get_info(f"{target}/sub/f").owner == "root"
    assert box.files.get_info(f"{target}/sub").mode == 0o700
    box.files.remove(target)


def test_renaming_a_directory_of_the_template(box: Sandbox) -> None:
    box.files.rename("/var/cache", "/var/moved-cache")
    box.files.rename("/var/moved-cache", "/var/cache")


def test_removing(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/a/b/c", "x")
    box.commands.run(f"ln -s {place}/a {place}/link; chmod 0 {place}/a/b")
    box.files.remove(f"{place}/link")
    assert box.files.exists(f"{place}/a/b/c")
    box.files.remove(f"{place}/a")
    assert box.files.list(place) == []
    box.files.remove(f"{place}/a")
    box.files.remove(f"{place}/never/there")
    with pytest.raises(InvalidArgumentException, match="root directory"):
        box.files.remove("/")


@pytest.mark.timeout(120)
def test_removing_and_listing_what_is_deep(box: Sandbox, place: str) -> None:
    box.commands.run(
        'python3 -c \'import os\nfor n in range(3000):\n os.mkdir("d"); os.chdir("d")\'', cwd=place
    )
    assert len(box.files.list(place, depth=10_000)) >= 2000
    box.files.remove(f"{place}/d")
    assert box.files.list(place) == []


def test_removing_while_it_grows(box: Sandbox, place: str) -> None:
    script = "while true; do mkdir -p t/a/b; touch t/a/b/$RANDOM t/$RANDOM; done"
    handle = box.commands.run(script, cwd=place, background=True)
    time.sleep(0.3)
    refusals = [_refusal_of_removing(box, f"{place}/t") for _ in range(20)]
    assert set(refusals) <= {
        None,
        f"Code.FAILED_PRECONDITION: path '{place}/t': directory not empty",
    }
    handle.kill()


def _refusal_of_removing(box: Sandbox, path: str) -> str | None:
    try:
        box.files.remove(path)
    except SandboxException as error:
        return str(error)
    return None


# --- metadata ---------------------------------------------------------------------------


def test_metadata(box: Sandbox, place: str) -> None:
    written = box.files.write(f"{place}/file", "x", metadata={"Purpose": "test", "n": "1"})
    assert written.metadata == {"purpose": "test", "n": "1"}
    assert box.files.get_info(f"{place}/file").metadata == {"purpose": "test", "n": "1"}
    assert box.files.list(place)[0].metadata == {"purpose": "test", "n": "1"}
    box.files.write(f"{place}/file", "x", metadata={"other": "2"})
    assert box.files.get_info(f"{place}/file").metadata == {"other": "2"}
    box.files.write(f"{place}/file", "x")
    assert not box.files.get_info(f"{place}/file").metadata
