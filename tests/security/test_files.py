"""What a client, or user code that plants links for it, could make envd do with its rights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from e2b import Sandbox
from e2b.exceptions import SandboxException

from tests.envd.supervisors import processes
from tests.service import Service

pytestmark = pytest.mark.security
PRIVATE = "/run/code-interpreter"
HANG = 1.0
"""Seconds; the answers come within milliseconds. Three tries: this machine may be busy."""


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=300, **service.options)
    try:
        yield sandbox
    finally:
        sandbox.kill()


@pytest.fixture(scope="module")
def supervisors(box: Sandbox) -> list[int]:
    """Pids of init, envd and the gateway, as the sandbox sees them."""
    found = box.commands.run("ps -eo pid,uid | awk '$2 == 65534 { print $1 }'").stdout
    return [int(pid) for pid in found.split()]


OPERATIONS: dict[str, Callable[[Sandbox, str], object]] = {
    "read": lambda box, path: box.files.read(path),
    "write": lambda box, path: box.files.write(path, "planted"),
    "list": lambda box, path: box.files.list(path),
    "watch": lambda box, path: box.files.watch_dir(path),
    "make": lambda box, path: box.files.make_dir(path + "/made"),
    "move": lambda box, path: box.files.rename(path + "/x", "/tmp/moved"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "path", [PRIVATE, f"{PRIVATE}/", "/run/../run/code-interpreter", f"/tmp/../{PRIVATE}/x/.."]
)
def test_the_supervisors_own_directory(box: Sandbox, operation: str, path: str) -> None:
    with pytest.raises(SandboxException):
        OPERATIONS[operation](box, path)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_links_into_the_supervisors_own_directory(box: Sandbox, operation: str) -> None:
    """Over several hops, absolute and relative."""
    box.commands.run(f"cd /tmp && ln -sfn {PRIVATE} one && ln -sfn one two && ln -sfn ../tmp/two x")
    with pytest.raises(SandboxException):
        OPERATIONS[operation](box, "/tmp/x")


@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd", "root", "cwd", "status"])
def test_supervisors_through_proc(box: Sandbox, supervisors: list[int], name: str) -> None:
    for pid in supervisors:
        with pytest.raises(SandboxException):
            box.files.read(f"/proc/{pid}/{name}")
        box.commands.run(f"ln -sfn /proc/{pid}/{name} /tmp/proc")
        with pytest.raises(SandboxException):
            box.files.read("/tmp/proc")


@pytest.mark.parametrize("name", ["self", "thread-self"])
@pytest.mark.parametrize("below", ["environ", "mem", "fd/0", "root/etc/passwd", "cwd/etc/passwd"])
def test_envd_through_its_own_proc(box: Sandbox, name: str, below: str) -> None:
    with pytest.raises(SandboxException):
        box.files.read(f"/proc/{name}/{below}")


def test_listing_what_is_around_shows_nothing_of_supervisors(
    box: Sandbox, supervisors: list[int]
) -> None:
    below = [entry.path for entry in box.files.list("/run", depth=5)]
    assert PRIVATE in below
    assert not [path for path in below if path.startswith(PRIVATE + "/")]
    below = [entry.path for entry in box.files.list("/proc", depth=2)]
    for pid in supervisors:
        assert not [path for path in below if path.startswith(f"/proc/{pid}/")]


def test_watching_what_is_around_tells_nothing_of_supervisors(
    box: Sandbox, service: Service
) -> None:
    watch = box.files.watch_dir("/run", recursive=True)
    try:
        box.commands.run("touch /run/e2b/seen", user="root")
        contexts = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49999"}
        answer = httpx.post(f"{service.url}/contexts", json={}, headers=contexts, timeout=30)
        assert answer.status_code == 200, "which the gateway notes in its directory"
        names = {event.name for event in watch.get_new_events()}
        assert "e2b/seen" in names
        assert not [name for name in names if name.startswith("code-interpreter/")]
    finally:
        watch.stop()


def test_links_tell_only_what_they_say(box: Sandbox, supervisors: list[int]) -> None:
    """Not where a link of a supervisor leads, nor whether there is anything behind."""
    for target in (f"/proc/{supervisors[1]}/exe", "/proc/self/fd/1", f"{PRIVATE}/cgroup", "/no"):
        box.commands.run(f"ln -sfn {target} /tmp/told")
        entry = box.files.get_info("/tmp/told")
        assert entry.symlink_target is not None
        assert "log" not in entry.symlink_target
        assert entry.symlink_target.startswith(("/proc/", PRIVATE, "/no")), entry


def test_removing_what_is_around_leaves_supervisors_alone(service: Service) -> None:
    box = Sandbox.create(timeout=120, **service.options)
    try:
        for path in (PRIVATE, "/run", "/proc/1", "/proc"):
            with pytest.raises(SandboxException):
                box.files.remove(path)
        headers = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49999"}
        answer = httpx.post(
            f"{service.url}/execute", json={"code": "6 * 7"}, headers=headers, timeout=30
        )
        assert '"42"' in answer.text
    finally:
        box.kill()


SPECIAL = {
    "fifo": "mkfifo /tmp/special",
    "socket": "python3 -c \"import socket; socket.socket(1).bind('/tmp/special')\"",
    "device": "ln -s /dev/zero /tmp/special",
    "terminal": "ln -s /dev/tty /tmp/special",
    "memory": "ln -s /proc/self/mem /tmp/special",
    "endless": "ln -s /dev/urandom /tmp/special",
}


@pytest.mark.flaky(reruns=2)
@pytest.mark.parametrize("command", SPECIAL.values(), ids=SPECIAL.keys())
@pytest.mark.parametrize("operation", ["read", "write", "list", "watch"])
def test_special_files_are_refused_at_once(box: Sandbox, command: str, operation: str) -> None:
    box.commands.run(f"rm -f /tmp/special; {command}")
    started = time.monotonic()
    with pytest.raises(SandboxException):
        OPERATIONS[operation](box, "/tmp/special")
    assert time.monotonic() - started < HANG
    box.files.remove("/tmp/special")
    assert not box.files.exists("/tmp/special")


SWAPPER = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.chdir("/tmp/race")
print("swapping", flush=True)
while True:  # RENAME_EXCHANGE: there is never nothing
    libc.renameat2(-100, b"there", -100, b"link", 2)
"""
TRIES = 100


@pytest.fixture
def swapped(box: Sandbox) -> Iterator[str]:
    """A path whose directory is, by turns, the user's own and a link to the supervisors'."""
    box.commands.run(f"mkdir -p /tmp/race/there && ln -s {PRIVATE} /tmp/race/link")
    box.files.write("/tmp/swapper.py", SWAPPER)
    swapper = box.commands.run("exec python3 /tmp/swapper.py", background=True, timeout=0)
    next(iter(swapper))
    yield "/tmp/race/there"
    swapper.kill()
    box.files.remove("/tmp/race")


@pytest.fixture
def private(box: Sandbox) -> Iterator[Callable[[], dict[str, bytes]]]:
    """What is in the supervisors' directory, seen from the host; it is the same at the end."""
    place = Path(f"/proc/{processes(box.sandbox_id)[0].pid}/root{PRIVATE}")

    def look() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}

    before = look()
    assert before, "there is something to steal"
    yield look
    assert look() == before


def _send(http: httpx.Client, box: Sandbox, operation: str, path: str) -> httpx.Response:
    """As somebody who has a signed URL, or, to compose, the token."""
    match operation:
        case "download":
            return http.get(box.download_url(path))
        case "upload octets":
            octets = {"Content-Type": "application/octet-stream"}
            return http.post(box.upload_url(path), content=b"planted", headers=octets)
        case "upload":
            return http.post(box.upload_url(path), files={"file": b"planted"})
    box.files.write("/tmp/race/part", "planted")
    composed = {"source_paths": ["/tmp/race/part"], "destination": path}
    if operation == "compose from":
        composed = {"source_paths": ["/tmp/race/part", path], "destination": "/tmp/race/whole"}
    headers = {
        "E2b-Sandbox-Id": box.sandbox_id,
        "E2b-Sandbox-Port": "49983",
        "X-Access-Token": str(box._envd_access_token),
    }
    return http.post("/files/compose", json=composed, headers=headers)


@pytest.mark.parametrize(
    "operation", ["download", "upload", "upload octets", "compose from", "compose to"]
)
def test_swapping_a_directory_while_it_is_used_wins_nothing(
    box: Sandbox,
    service: Service,
    swapped: str,
    private: Callable[[], dict[str, bytes]],
    operation: str,
) -> None:
    """The supervisors' files are named, so that both sides of the swap have them."""
    names = sorted(private())
    for name in names:
        box.commands.run(f"until echo -n 'open to all' > {swapped}/{name}; do :; done 2> /dev/null")
    statuses = set()
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as http:
        for number in range(TRIES):
            path = f"{swapped}/{names[number % len(names)]}"
            answer = _send(http, box, operation, path)
            statuses.add(answer.status_code)
            if operation == "download" and answer.status_code == 200:
                assert answer.content == b"open to all"
    assert {200, 403} <= statuses <= {200, 403, 404}, "both sides of the swap were met"
    if operation == "compose from":
        assert box.files.read("/tmp/race/whole").startswith("planted")


def test_hard_links_carry_no_more_rights(box: Sandbox) -> None:
    """The kernel makes none to what is on another mount, or to what one may not write."""
    for target in (f"{PRIVATE}/cgroup", "/proc/1/environ", "/etc/shadow"):
        made = box.commands.run(f"ln {target} /tmp/hard 2>&1 || true").stdout
        assert "ln: " in made
    box.files.write("/tmp/mine", "1")
    box.commands.run("ln /tmp/mine /tmp/other")
    box.files.write("/tmp/other", "2")
    assert box.files.read("/tmp/mine") == "2"


def test_a_name_that_begins_like_a_private_one(box: Sandbox) -> None:
    """Names are compared whole: what only begins like it is not the supervisors'."""
    box.files.write(f"{PRIVATE}-not/file", "mine", user="root")
    assert box.files.read(f"{PRIVATE}-not/file", user="root") == "mine"
    assert [entry.name for entry in box.files.list(f"{PRIVATE}-not")] == ["file"]


@pytest.mark.parametrize(
    "path",
    ["/tmp/a\0b", "\0", "/tmp/" + "x" * 256, "/tmp/" + "x/" * 2048, "/tmp/" + "é" * 128, "\ud800"],
    ids=["nul", "only nul", "long name", "long path", "long in bytes", "no unicode"],
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_cannot_be_a_path(box: Sandbox, operation: str, path: str) -> None:
    with pytest.raises((SandboxException, UnicodeEncodeError)):
        OPERATIONS[operation](box, path)


ODD = ("%2e%2e%2f%2e%2e", "..%00", "a ", "a.", "e\u0301", "é", "\u202egpj.exe", "-rf", "a\nb")


@pytest.mark.parametrize("name", [*ODD, "\uff0e\uff0e\uff0f"])
def test_odd_names_are_names(box: Sandbox, name: str) -> None:
    """Nothing is decoded, normalised or stripped: each is a file of exactly this name."""
    box.files.write(f"/tmp/odd/{name}", name)
    assert box.files.read(f"/tmp/odd/{name}") == name
    assert [entry.name for entry in box.files.list("/tmp/odd")] == [name]
    box.files.remove("/tmp/odd")
