"""Canaries as every secret that clients and users give: they turn up where they belong alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from e2b import CommandExitException
from e2b.exceptions import GitAuthException, SandboxException

from code_interpreter import Sandbox
from tests.envd import supervisors
from tests.host.running import RunningHost, data_directory
from tests.service import shared_templates
from tests.soak.world import until

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(os.getuid() != 0, reason="only root sees the supervisors from outside"),
]


def _canary(name: str) -> str:
    return f"canary{name}{secrets.token_hex(12)}"


@dataclass
class Scene:
    """A host whose key is a canary, a sandbox in which all the others were used."""

    host: RunningHost
    sandbox: Sandbox
    canaries: dict[str, str]
    errors: list[str] = field(default_factory=list)
    """Bodies and messages of everything that was refused."""

    def found_in(self, text: str | bytes) -> set[str]:
        data = text if isinstance(text, bytes) else text.encode(errors="replace")
        return {name for name, canary in self.canaries.items() if canary.encode() in data}


@pytest.fixture(scope="module")
def scene(service: object) -> Iterator[Scene]:
    """Asking for the shared host makes sure that the template is there."""
    names = ("key", "envs", "cell", "command", "code", "git", "content", "metadata")
    canaries = {name: _canary(name) for name in names}
    environment = {
        **shared_templates(),
        "CODE_INTERPRETER_API_KEY": f"e2b_{canaries['key']}",
        "CODE_INTERPRETER_LOG_LEVEL": "debug",
    }
    with data_directory() as data:
        host = RunningHost(data, "--runtime", "namespaces", env=environment)
        try:
            yield _play(host.wait_until_ready(), canaries)
        finally:
            host.stop()


def _play(host: RunningHost, canaries: dict[str, str]) -> Scene:
    sandbox = Sandbox.create(
        timeout=300,
        envs={"SECRET": canaries["envs"]},
        metadata={"note": canaries["metadata"]},
        **host.options,
    )
    canaries["access token"] = sandbox._envd_access_token or ""
    assert canaries["access token"]
    scene = Scene(host, sandbox, canaries)
    sandbox.run_code(f"x = {canaries['code']!r}", envs={"CELL": canaries["cell"]})
    sandbox.run_code(f"raise ValueError({canaries['code']!r})")
    sandbox.commands.run("true", envs={"COMMAND": canaries["command"]})
    sandbox.files.write("/tmp/secret", canaries["content"])
    with contextlib.suppress(CommandExitException, GitAuthException, SandboxException):
        sandbox.git.clone(
            "https://localhost:1/x.git", username="user", password=canaries["git"], path="/tmp/x"
        )
    scene.errors += _refusals(scene)
    return scene


def _refusals(scene: Scene) -> list[str]:
    host, sandbox, canaries = scene.host, scene.sandbox, scene.canaries
    envd = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
    gateway = {**envd, "E2b-Sandbox-Port": "49999"}
    key, token = canaries["key"], canaries["access token"]
    asked = [
        ("GET", "/v2/sandboxes", {"X-API-KEY": f"wrong{key}"}, None),
        ("POST", "/sandboxes", {"X-API-KEY": host.key}, {"templateID": "x", "envVars": 5}),
        ("POST", "/sandboxes", {"X-API-KEY": host.key}, {"templateID": "x", "x": canaries["envs"]}),
        ("GET", "/files?path=/tmp/secret", {**envd, "X-Access-Token": f"wrong{token}"}, None),
        ("GET", "/files?path=/nothing", {**envd, "X-Access-Token": token}, None),
        ("POST", "/process.Process/Start", {**envd, "X-Access-Token": token}, {"process": 5}),
        ("POST", "/execute", gateway, {"code": 5, "env_vars": {"A": canaries["cell"]}}),
        ("POST", "/execute", gateway, {"code": "1", "env_vars": {"A": [canaries["cell"]]}}),
        ("POST", "/execute", gateway, {"code": canaries["code"], "context_id": "none"}),
        ("GET", f"/jupyter/{sandbox.sandbox_id}/api?token=wrong{token}", {}, None),
        ("GET", f"/jupyter/{sandbox.sandbox_id}/api/kernels/none?token={token}", {}, None),
        ("GET", f"/files?path=/tmp/secret&signature={key}&username=user", envd, None),
    ]
    with httpx.Client(base_url=host.url, trust_env=False, timeout=30) as http:
        answers = [
            http.request(method, path, headers=headers, json=body)
            for method, path, headers, body in asked
        ]
    assert all(answer.status_code >= 400 for answer in answers)
    return [f"{answer.headers} {answer.text}" for answer in answers]


def test_no_secret_in_an_error(scene: Scene) -> None:
    for text in scene.errors:
        assert scene.found_in(text) == set(), text


def test_no_secret_in_a_log(scene: Scene) -> None:
    """The key is printed once, for whoever started the host to copy."""
    data = scene.host.data
    logs = [*data.rglob("*.log"), data.with_suffix(".err")]
    assert {"forkserver.log", "box.log"} <= {log.name for log in logs}
    for log in logs:
        assert scene.found_in(log.read_bytes()) == set(), log
    assert scene.found_in(data.with_suffix(".out").read_bytes()) <= {"key"}


def test_no_secret_in_the_name_or_environment_of_a_process(scene: Scene) -> None:
    """But in the host's own, which was given its key so, and in user code's."""
    inside = {process.pid for process in supervisors.processes(scene.sandbox.sandbox_id)}
    assert len(inside) >= 2
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            directory = Path(f"/proc/{process.pid}")
            assert scene.found_in((directory / "cmdline").read_bytes()) == set(), process
            if process.pid in inside or "forkserver" in " ".join(process.cmdline()):
                allowed = {"envs"} if process.pid not in inside else set()
                found = scene.found_in((directory / "environ").read_bytes())
                assert found <= allowed, process


def test_no_secret_of_the_host_in_the_sandbox(scene: Scene) -> None:
    """Neither the key nor the access token, nor what was only for one cell or command."""
    hidden = {"key", "access token", "cell", "command", "git", "metadata"}
    patterns = " ".join(f"-e {scene.canaries[name]}" for name in hidden)
    script = f"""
    grep -rsl {patterns} /etc /run /tmp /home /root /var /opt/code-interpreter/kernels /dev/shm
    for pid in $(ls /proc | grep -E '^[0-9]+$'); do
        test $pid = $$ -o $pid = $PPID && continue
        tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -v grep | grep -s {patterns}
        grep -sl {patterns} /proc/$pid/environ 2>/dev/null
    done; true
    """
    scene.sandbox.files.write("/tmp/search.sh", script)
    found = scene.sandbox.commands.run("bash /tmp/search.sh", user="root", timeout=60).stdout
    assert found.split() == ["/tmp/search.sh"]


MEMORY = r"""
import ctypes, re

pattern = re.compile(rb"canary(key|command|git|metadata)[0-9a-f]{24}")
found, size = set(), 0
for line in list(open("/proc/self/maps")):
    place, rights = line.split()[:2]
    if rights.startswith("rw"):
        start, end = (int(number, 16) for number in place.split("-"))
        found |= set(pattern.findall(ctypes.string_at(start, end - start)))
        size += end - start
print(size > 50_000_000, sorted(found))
"""


def test_no_secret_of_the_host_in_the_memory_of_a_kernel(scene: Scene) -> None:
    """Which is a fork of the process that makes all sandboxes."""
    cell = scene.sandbox.run_code(MEMORY, timeout=60)
    assert "".join(cell.logs.stdout) == "True []\n", cell.error


def test_no_secret_in_what_the_host_tells_of_itself(scene: Scene) -> None:
    sandbox_id = scene.sandbox.sandbox_id
    own = [f"/sandboxes/{sandbox_id}/{what}" for what in ("logs", "metrics")]
    metrics = f"/sandboxes/metrics?sandbox_ids={sandbox_id}"
    with scene.host.http() as http:
        for path in ("/v2/sandboxes", *own, metrics, "/pool", "/openapi.json", "/health"):
            told = http.get(path)
            assert told.is_success, (path, told.text)
            assert scene.found_in(told.text) <= {"metadata"}, path


def test_no_secret_in_what_a_sandbox_tells_of_itself(scene: Scene) -> None:
    """What it was made with, its owner can read: its variables."""
    token = {"X-Access-Token": scene.canaries["access token"]}
    named = {"E2b-Sandbox-Id": scene.sandbox.sandbox_id, **token}
    told = {
        ("49983", "/metrics"): set(),
        ("49983", "/health"): set(),
        ("49983", "/envs"): {"envs"},
        ("49999", "/health"): set(),
        ("49999", "/contexts"): set(),
        ("49999", "/api/status"): set(),
    }
    with httpx.Client(base_url=scene.host.url, trust_env=False, timeout=30) as http:
        for (port, path), allowed in told.items():
            answer = http.get(path, headers={**named, "E2b-Sandbox-Port": port})
            assert answer.is_success, path
            assert scene.found_in(f"{answer.headers}{answer.text}") <= allowed, path


def test_no_secret_in_what_is_left_of_a_crash(scene: Scene) -> None:
    """Of a kernel and of both supervisors: no core dump, and no log with more than names."""
    before = {path for place in DUMPED_AT for path in Path(place).glob("*core*")}
    crash = f"import ctypes; x = {scene.canaries['code']!r}; ctypes.string_at(0)"
    assert scene.sandbox.run_code(crash, timeout=60).error is not None
    init, *running = supervisors.processes(scene.sandbox.sandbox_id)
    host = psutil.Process(scene.host.process.pid)
    for process in (init, *running, host, *host.children()):
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0), process
    for process in running:
        process.send_signal(signal.SIGABRT)
    until(scene.sandbox.is_running, 20)
    until(lambda: scene.sandbox.run_code("6 * 7", timeout=20).text == "42", 20)
    find = "find / -xdev -newer /tmp/secret -name 'core*' -type f 2>/dev/null || true"
    assert scene.sandbox.commands.run(find, user="root", timeout=60).stdout == ""
    assert {path for place in DUMPED_AT for path in Path(place).glob("*core*")} == before
    assert [path for path in scene.host.data.rglob("*core*") if path.is_file()] == []
    test_no_secret_in_a_log(scene)


DUMPED_AT = (".", "/", "/tmp", "/var/crash", "/var/lib/systemd/coredump")


def test_files_with_secrets_are_for_their_owner_alone(scene: Scene) -> None:
    for path in scene.host.data.rglob("*"):
        with contextlib.suppress(OSError):
            if not path.is_file() or path.stat().st_size > 1 << 22:
                continue
            if scene.found_in(path.read_bytes()) - {"content", "metadata"}:
                assert path.stat().st_mode & 0o077 == 0, path
