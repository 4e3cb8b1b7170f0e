"""Links that user code swaps in while envd follows a path, many thousand times.

Each operation names something that both sides of the swap have: the user's own directory, and
the supervisors', which a link leads to, over two hops. 100,000 tries in all:
`pytest -m slow tests/security/test_races.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2b import Sandbox
from e2b.exceptions import SandboxException

from tests.envd.supervisors import processes
from tests.service import Service

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(os.getuid() != 0, reason="only root sees the supervisors' files"),
]
PRIVATE = "/run/code-interpreter"
SHORT, LONG = 60, 100_000
SWAPPER = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.chdir("/tmp/race")
print("swapping", flush=True)
while True:  # RENAME_EXCHANGE: there is never nothing
    libc.renameat2(-100, b"there", -100, b"link", 2)
"""
OPEN = "open to all"


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=3600, **service.options)
    try:
        yield sandbox
    finally:
        sandbox.kill()


Look = Callable[[], dict[str, bytes]]


@pytest.fixture
def private(box: Sandbox) -> Look:
    """What is in the supervisors' directory, seen from the host."""
    place = Path(f"/proc/{processes(box.sandbox_id)[0].pid}/root{PRIVATE}")

    def look() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}

    return look


@pytest.fixture
def swapped(box: Sandbox, private: Look) -> Iterator[str]:
    """A path that is, by turns, a directory of the user's and a link to the supervisors'."""
    names = " ".join(sorted(private()))
    box.commands.run(
        "rm -rf /tmp/race && mkdir -p /tmp/race/there && cd /tmp/race && "
        f"ln -s {PRIVATE} hop && ln -s /tmp/race/hop link && "
        f"for name in {names}; do echo -n '{OPEN}' > there/$name; done"
    )
    box.files.write("/tmp/swapper.py", SWAPPER)
    swapper = box.commands.run("exec python3 /tmp/swapper.py", background=True, timeout=0)
    next(iter(swapper))
    yield "/tmp/race/there"
    swapper.kill()


def _read(box: Sandbox, path: str, name: str) -> None:
    assert box.files.read(f"{path}/{name}") == OPEN


def _write(box: Sandbox, path: str, name: str) -> None:
    box.files.write(f"{path}/{name}", OPEN)


def _list(box: Sandbox, path: str, name: str) -> None:
    assert {entry.size for entry in box.files.list(path)} == {len(OPEN)}


def _watch(box: Sandbox, path: str, name: str) -> None:
    watch = box.files.watch_dir(path)
    try:
        box.files.write(f"{path}/planted", OPEN)
        assert {event.name for event in watch.get_new_events()} <= {"planted", "made", "moved"}
    finally:
        watch.stop()


def _make(box: Sandbox, path: str, name: str) -> None:
    box.files.make_dir(f"{path}/made")


def _move(box: Sandbox, path: str, name: str) -> None:
    box.files.rename(f"{path}/{name}", "/tmp/race/moved")
    # Nothing, where another thread brings it back and has not yet written.
    assert box.files.read("/tmp/race/moved") in ("", OPEN)
    box.files.rename("/tmp/race/moved", f"/tmp/race/there/{name}")


def _remove(box: Sandbox, path: str, name: str) -> None:
    box.files.remove(f"{path}/{name}")


OPERATIONS = {
    each.__name__.strip("_"): each for each in (_read, _write, _list, _watch, _make, _move, _remove)
}


def _race(box: Sandbox, path: str, name: str, operation: str, tries: int) -> dict[bool, int]:
    """How often it was let through, and refused."""
    done = {True: 0, False: 0}

    def run(part: int) -> None:
        for _ in range(part):
            with contextlib.suppress(SandboxException):
                OPERATIONS[operation](box, path, name)
                done[True] += 1
                continue
            done[False] += 1
            if operation in ("move", "remove"):  # what is gone on the user's side comes back
                with contextlib.suppress(SandboxException):
                    box.files.write(f"{path}/{name}", OPEN)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, [tries // 4] * 4))
    return done


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "tries", [SHORT, pytest.param(LONG // len(OPERATIONS) + 4, marks=pytest.mark.slow)]
)
def test_swapping_links_wins_nothing(
    box: Sandbox, swapped: str, private: Look, operation: str, tries: int
) -> None:
    before = private()
    assert before, "there is something to steal"
    done = _race(box, swapped, sorted(before)[0], operation, tries)
    assert private() == before
    assert done[False], "the other side of the swap was met"
    if operation in ("read", "write", "list"):
        assert done[True], "the user's own side was met"
