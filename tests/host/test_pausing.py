"""Paused and resumed, a sandbox is as it was: by the freezer, on the runtime of this machine."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from e2b import PtySize, SandboxQuery, SandboxState, TimeoutException

from code_interpreter import (
    AsyncSandbox,
    ExecutionStatus,
    ExecutionTimeoutException,
    Sandbox,
    SandboxPausedException,
)
from code_interpreter.host.runtimes.namespaces import box_name
from tests.service import Service, cgroups_named

SERVER = """
import http.server, threading
class Handler(http.server.BaseHTTPRequestHandler):
    seen = 0
    def do_GET(self):
        Handler.seen += 1
        body = str(Handler.seen).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
import socket
near, far = socket.socketpair()
import os, time
pid, token, started = os.getpid(), os.urandom(16), time.monotonic()
"""

needs_control_groups = pytest.mark.skipif(
    os.getuid() != 0, reason="memory is given back where the host may use the memory controller"
)


@pytest.fixture
def sandbox(service: Service) -> Iterator[Sandbox]:
    made: Sandbox = Sandbox.create(timeout=120, **service.options)
    yield made
    made.kill()


def again(sandbox: Sandbox) -> None:
    sandbox.connect(timeout=120)


@pytest.mark.timeout(120)
def test_twenty_cycles_lose_nothing(sandbox: Sandbox, service: Service) -> None:
    _cycle(sandbox, service, 20)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_cycles_lose_nothing(sandbox: Sandbox, service: Service) -> None:
    _cycle(sandbox, service, 200)


def _cycle(sandbox: Sandbox, service: Service, cycles: int) -> None:
    sandbox.run_code(SERVER)
    before = sandbox.run_code("pid, token.hex(), id(server)").text
    other = sandbox.create_code_context()
    sandbox.run_code("mine = []", context=other)
    sleeper = sandbox.commands.run("sleep 100000", background=True, timeout=0)
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80), timeout=0)
    sandbox.pty.send_stdin(terminal.pid, b"count=0\n")
    boot = sandbox.files.read("/proc/sys/kernel/random/boot_id")
    for number in range(1, cycles + 1):
        sandbox.files.write(f"file{number}", str(number))
        assert sandbox.pause()
        again(sandbox)
        assert sandbox.run_code(f"mine.append({number}); len(mine)", context=other).text == str(
            number
        )
        assert _get(service, sandbox, 8000) == str(number)
        sandbox.pty.send_stdin(terminal.pid, b"count=$((count + 1))\n")
    assert sandbox.run_code("pid, token.hex(), id(server)").text == before
    assert sandbox.run_code("near.send(b'x'), far.recv(1)").text == "(1, b'x')"
    assert [sandbox.files.read(f"file{n}") for n in range(1, cycles + 1)] == [
        str(n) for n in range(1, cycles + 1)
    ]
    assert {sleeper.pid, terminal.pid} <= {each.pid for each in sandbox.commands.list()}
    sandbox.pty.send_stdin(terminal.pid, b"echo $count > counted; exit\n")
    until_read(sandbox, "counted", f"{cycles}\n")
    assert sandbox.files.read("/proc/sys/kernel/random/boot_id") == boot


def _get(service: Service, sandbox: Sandbox, port: int) -> str:
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port)}
    return httpx.get(service.url, headers=headers, trust_env=False).text


def until_read(sandbox: Sandbox, path: str, text: str) -> None:
    deadline = time.monotonic() + 10
    while not (sandbox.files.exists(path) and sandbox.files.read(path) == text):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- cells --------------------------------------------------------------------------------


def test_a_cell_in_the_background_goes_on(sandbox: Sandbox) -> None:
    handle = sandbox.run_code(
        "import time\nfor n in range(20): print(n); time.sleep(0.05)\n'end'", background=True
    )
    time.sleep(0.3)
    sandbox.pause()
    time.sleep(1)
    with pytest.raises(SandboxPausedException, match=handle.id) as told:
        handle.wait(20)
    assert told.value.execution_id == handle.id
    again(sandbox)
    execution = sandbox.attach_execution(handle.id).wait(20)
    assert (execution.status, execution.text) == (ExecutionStatus.OK, "end")
    assert "".join(execution.logs.stdout).split() == [str(n) for n in range(20)]


def test_so_does_one_that_somebody_waits_for(sandbox: Sandbox) -> None:
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            sandbox.run_code("import time; time.sleep(1.5); done = True")
        except SandboxPausedException as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    sandbox.pause()
    waiting.join(10)
    assert len(failures) == 1
    time.sleep(11)  # longer than a cell waits for a client to come back
    again(sandbox)
    assert sandbox.run_code("done").text == "True"


def test_an_unmodified_client_s_cell_goes_on_too(sandbox: Sandbox, service: Service) -> None:
    theirs = importlib.import_module("e2b_code_interpreter").Sandbox.connect(
        sandbox.sandbox_id, **service.options
    )

    def run() -> None:
        with contextlib.suppress(TimeoutException):
            theirs.run_code("import time; time.sleep(1.5); done = True")

    waiting = threading.Thread(target=run)
    waiting.start()
    time.sleep(0.5)
    sandbox.pause()
    waiting.join(10)
    assert not waiting.is_alive()
    again(sandbox)
    assert sandbox.run_code("done").text == "True"


def test_paused_time_is_none_of_the_cell_s(sandbox: Sandbox) -> None:
    handle = sandbox.run_code(
        "import time\nbegan = time.process_time()\n"
        "while time.process_time() - began < 0.5: pass\n'end'",
        timeout=4,
        background=True,
    )
    sandbox.pause()
    time.sleep(6)
    again(sandbox)
    assert sandbox.attach_execution(handle.id).wait(20).text == "end"


def test_its_time_out_still_comes(sandbox: Sandbox) -> None:
    handle = sandbox.run_code("while True: pass", timeout=2, background=True)
    sandbox.pause()
    time.sleep(3)
    again(sandbox)
    with pytest.raises(ExecutionTimeoutException):
        sandbox.attach_execution(handle.id).wait(20)
    assert sandbox.run_code("1 + 1").text == "2"


def test_and_so_for_commands(sandbox: Sandbox) -> None:
    lasting = sandbox.commands.run("sleep 4; echo end > slept", background=True, timeout=7)
    spinning = sandbox.commands.run("sleep 1000", background=True, timeout=4)
    sandbox.pause()
    time.sleep(6)
    again(sandbox)
    until_read(sandbox, "slept", "end\n")
    assert lasting.pid != spinning.pid
    deadline = time.monotonic() + 10
    while spinning.pid in {each.pid for each in sandbox.commands.list()}:
        assert time.monotonic() < deadline
        time.sleep(0.1)


LOOKED = """
steady, wall = zip(*looks)
steady == tuple(sorted(steady)) and before <= time.monotonic(), wall == tuple(sorted(wall)), \\
    max(later - sooner for sooner, later in zip(wall, wall[1:])) > 2
"""


@pytest.mark.security
def test_clocks_are_right_after_a_pause(sandbox: Sandbox) -> None:
    other, idle = sandbox.create_code_context(), sandbox.create_code_context()
    sandbox.run_code("import time", context=idle)
    watching = sandbox.run_code(
        "import time\nends = time.monotonic() + 5; looks = []\n"
        "while time.monotonic() < ends:\n"
        "    looks.append((time.monotonic(), time.time())); time.sleep(0.001)\n"
        "before = time.monotonic()",
        context=other,
        background=True,
    )
    handle = sandbox.run_code(
        "import time\nm = [time.monotonic()]; began = time.time(); time.sleep(4)\n"
        "m.append(time.monotonic()); ended = time.time()\n",
        background=True,
    )
    time.sleep(1)  # into the sleep: a pause between two looks at clocks is one in both
    sandbox.pause()
    time.sleep(3)
    again(sandbox)
    for _ in range(3):
        earliest = time.time()
        inside = float(sandbox.run_code("time.time()", context=idle).text or 0)
        assert earliest - 0.1 < inside < time.time() + 0.1
    sandbox.attach_execution(watching.id).wait(20)
    sandbox.attach_execution(handle.id).wait(20)
    looked = sandbox.run_code(LOOKED, context=other)
    assert looked.text == "(True, True, True)", looked.error
    assert sandbox.run_code("m == sorted(m) and m[1] - m[0] >= 4").text == "True"
    assert sandbox.run_code("abs(ended - began - (m[1] - m[0])) < 0.1").text == "True"


# --- traffic, state, end ------------------------------------------------------------------


def test_a_paused_sandbox_says_so(sandbox: Sandbox, service: Service) -> None:
    sandbox.run_code("1")
    sandbox.pause()
    with pytest.raises(SandboxPausedException, match="'connect' resumes it"):
        sandbox.run_code("1 + 1")
    assert not sandbox.is_running()
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49999"}
    answer = httpx.get(f"{service.url}/health", headers=headers, trust_env=False)
    assert answer.json() == {
        "sandboxId": sandbox.sandbox_id,
        "state": "paused",
        "message": "The sandbox was not found",
        "code": 502,
    }
    again(sandbox)
    assert sandbox.run_code("1 + 1").text == "2"


async def test_a_cell_goes_on_by_itself_where_traffic_resumes(service: Service) -> None:
    sandbox = await AsyncSandbox.create(
        lifecycle={"on_timeout": "pause", "auto_resume": True}, timeout=60, **service.options
    )
    try:
        handle = await sandbox.run_code(
            "import time\nfor n in range(10): print(n); time.sleep(0.1)", background=True
        )
        await sandbox.pause()
        execution = await handle.wait(20)  # its connection comes back, and that is traffic
        assert "".join(execution.logs.stdout).split() == [str(n) for n in range(10)]
        assert (await sandbox.get_info()).state is SandboxState.RUNNING
    finally:
        await sandbox.kill()


def test_ten_requests_at_once_wake_it_once(service: Service) -> None:
    sandbox = Sandbox.create(
        lifecycle={"on_timeout": "pause", "auto_resume": True}, timeout=60, **service.options
    )
    sandbox.run_code("x = 1")
    sandbox.pause()
    answers: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: answers.append(sandbox.run_code("x").text))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["1"] * 10
    assert sandbox.kill()


def test_the_time_out_pauses_and_the_state_is_listed(service: Service) -> None:
    mark = {"paused": "by time-out"}
    sandbox = Sandbox.create(
        timeout=2, lifecycle={"on_timeout": "pause"}, metadata=mark, **service.options
    )
    sandbox.run_code("kept = 'it'")
    deadline = time.monotonic() + 10
    while sandbox.get_info().state is not SandboxState.PAUSED:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for states, expected in (
        ([SandboxState.PAUSED], [sandbox.sandbox_id]),
        ([SandboxState.RUNNING], []),
        ([SandboxState.RUNNING, SandboxState.PAUSED], [sandbox.sandbox_id]),
    ):
        listed = Sandbox.list(
            SandboxQuery(metadata=mark, state=states), **service.options
        ).next_items()
        assert [item.sandbox_id for item in listed] == expected
    again(sandbox)
    assert sandbox.run_code("kept").text == "it"
    assert sandbox.kill()


def test_paused_kills_are_quick_and_whole(sandbox: Sandbox, service: Service) -> None:
    sandbox.commands.run("sleep 1000", background=True)
    name = box_name(sandbox.sandbox_id)
    init = int((service.data / "run" / name / "init.pid").read_text().split()[0])
    family = [psutil.Process(init), *psutil.Process(init).children(recursive=True)]
    sandbox.pause()
    assert sandbox.kill()
    gone, left = psutil.wait_procs(family, timeout=10)
    assert left == []
    assert len(gone) >= 3


# --- memory -------------------------------------------------------------------------------


@needs_control_groups
def test_a_pause_gives_back_memory(sandbox: Sandbox) -> None:
    """What was read from files, everywhere; all of it where there is swap."""
    sandbox.run_code("text = bytes(64 << 20); open('/home/user/big', 'wb').write(text)")
    sandbox.run_code("del text; import os; os.sync(); len(open('/home/user/big', 'rb').read())")
    before = _memory(sandbox)
    sandbox.pause()
    deadline = time.monotonic() + 30
    while _memory(sandbox) > before - (32 << 20):
        assert time.monotonic() < deadline, (before, _memory(sandbox))
        time.sleep(0.1)
    again(sandbox)
    assert sandbox.run_code("len(open('/home/user/big', 'rb').read()) >> 20").text == "64"


def _memory(sandbox: Sandbox) -> int:
    for group in cgroups_named(box_name(sandbox.sandbox_id)):
        for name in ("memory.current", "memory.usage_in_bytes"):
            file = Path(group, name)
            if file.exists():
                return int(file.read_text())
    raise AssertionError("the sandbox has no memory controller")
