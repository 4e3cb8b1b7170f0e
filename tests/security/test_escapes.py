"""Scenarios of the public sets of escapes, each tried as both accounts: none is solved."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2b import Sandbox

from tests.envd import supervisors
from tests.security import escapes
from tests.service import Service

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls by number"),
]
UNCHANGED = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/user/max_user_namespaces",
)
KEY = 0x43490001


@pytest.fixture(scope="module")
def bait(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What there is to be got outside, all of it open to every account of the machine."""
    top = tmp_path_factory.mktemp("bait")
    secret, name = secrets.token_hex(), f"bait-{secrets.token_hex(4)}"
    (top / "secret").write_text(secret)
    shared = Path("/dev/shm", name)
    shared.write_text(secret)
    libc = ctypes.CDLL(None)
    segment = libc.shmget(KEY, 4096, 0o1666)
    with ExitStack() as stack:
        stack.callback(shared.unlink)
        stack.callback(libc.shmctl, segment, 0, None)
        for address in ("\0" + name, str(top / "unix")):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        server = stack.enter_context(socket.create_server(("", 0)))
        found = psutil.net_if_addrs().values()
        yield {
            "secret": secret,
            "mark": f"|/tmp/{name}",
            "file": str(top / "secret"),
            "shared": name,
            "segment": KEY,
            "abstract": name,
            "unix": [str(top / "unix"), *map(str, service.data.glob("run/*.sock"))],
            "ports": [server.getsockname()[1], int(service.url.rpartition(":")[2])],
            "addresses": [a.address for each in found for a in each if a.family == socket.AF_INET],
            "program": "code_interpreter.cli",
        }


@pytest.mark.parametrize("user", ["user", "root"])
def test_no_scenario_is_solved(service: Service, bait: dict[str, Any], user: str) -> None:
    before = _machine()
    box = Sandbox.create(timeout=300, **service.options)
    try:
        box.files.write("/tmp/bait.json", json.dumps(_of_the_box(bait, service)))
        box.files.write("/tmp/escapes.py", Path(escapes.__file__).read_text())
        run = "python3 /tmp/escapes.py /tmp/bait.json"
        got = json.loads(box.commands.run(run, user=user, timeout=100).stdout)
        assert got.keys() == escapes.SCENARIOS.keys()
        assert len(got) >= 25
        assert {name: what for name, what in got.items() if what is not None} == {}
        assert box.is_running()
        assert box.commands.run("echo still here").stdout == "still here\n"
        if os.getuid() == 0:
            assert len(supervisors.processes(box.sandbox_id)) >= 2
    finally:
        box.kill()
    assert _machine() == before


def _of_the_box(bait: dict[str, Any], service: Service) -> dict[str, Any]:
    """The sockets of its own supervisors, too."""
    return {**bait, "unix": [*bait["unix"], *map(str, service.data.glob("run/*/*.sock"))]}


def _machine() -> dict[str, str]:
    """What a scenario that went through would have changed."""
    files = [*UNCHANGED, sys.executable, "/usr/bin/env", "/usr/bin/true"]
    found = [Path(path) for path in files if Path(path).exists()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_the_scenarios_can_be_solved(bait: dict[str, Any]) -> None:
    """Where nothing is in the way: on this machine itself, for those that change nothing."""
    if os.getuid() != 0:
        pytest.skip("as root, who may do it all")
    harmless = (
        *("file_by_its_path", "services_of_the_host", "unix_sockets_of_the_host"),
        *("shared_memory", "processes_of_the_host"),
    )
    unsolved = [name for name in harmless if not escapes.SCENARIOS[name](bait)]
    assert unsolved == []
