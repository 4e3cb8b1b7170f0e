"""Every command of E2B's command line that acts on sandboxes, once; what came of each."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from tests import npm
from tests.compatibility.seen import Seen
from tests.terminal import Screen

SECONDS = 60.0
PROMPT = r"^user@\S+:\S+\$$"


class Absent(Exception):
    """This release has no such command."""


@dataclass(frozen=True)
class Cli:
    """``e2b`` with the variables that a host prints; its own files are kept apart."""

    command: list[str]
    environment: Mapping[str, str]
    sandbox_id: str = ""

    def run(self, *arguments: str, code: int = 0, given: str | None = None) -> str:
        """What it printed, if it ended with that exit code."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=dict(self.environment),
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if "unknown command" in done.stderr or "unknown option" in done.stderr:
            raise Absent(done.stderr)
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        assert done.returncode == code, f"exit code {done.returncode}: {said[:500]}"
        return said

    @contextmanager
    def in_terminal(self, *arguments: str, size: tuple[int, int] = (24, 80)) -> Iterator[Terminal]:
        """It runs in a terminal of its own, and is killed if it has not ended."""
        terminal = Terminal([*self.command, *arguments], self.environment, size)
        try:
            yield terminal
        finally:
            terminal.close()


class Terminal:
    """A real pseudo-terminal with a program in it, which leads its session."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], size: tuple[int, int]
    ) -> None:
        self.screen = Screen(*size)
        self._master, slave = os.openpty()
        self._set_size(*size)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm-256color"},
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody has the other end any more
                return
            self.screen.feed(data)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size(rows, columns)

    def end(self) -> int:
        """Its exit code."""
        return self._process.wait(SECONDS)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(SECONDS)
        os.close(self._master)


Call = Callable[[Cli], object]
CALLS: dict[str, Call] = {}


def call(name: str) -> Callable[[Call], Call]:
    def note(function: Call) -> Call:
        CALLS[name] = function
        return function

    return note


def run_cli(version: str, environment: Mapping[str, str]) -> Seen:
    """With that release from npm."""
    with started(version, environment) as cli:
        return Seen("cli", version, {name: _outcome(each, cli) for name, each in CALLS.items()})


@contextmanager
def started(version: str, environment: Mapping[str, str]) -> Iterator[Cli]:
    """A release, with a sandbox that it made."""
    packages = npm.installed(f"@e2b/cli@{version}")
    with TemporaryDirectory() as home:
        variables = {**os.environ, **environment, "HOME": home, "NO_UPDATE_NOTIFIER": "1"}
        variables["E2B_ACCESS_TOKEN"] = environment["E2B_API_KEY"]  # what older ones look for
        cli = Cli(packages.program("e2b"), variables)
        with _sandbox_in_terminal(cli) as sandbox_id:
            yield Cli(cli.command, variables, sandbox_id)


@contextmanager
def _sandbox_in_terminal(cli: Cli) -> Iterator[str]:
    """The id of a new sandbox, which lives as long as its terminal."""
    with cli.in_terminal("sandbox", "create", "base") as terminal:
        terminal.screen.until(PROMPT, SECONDS)
        terminal.type("echo $E2B_SANDBOX_ID\r")
        yield terminal.screen.until(r"^(i[a-z0-9]{10,})$")[1]


def _outcome(call: Call, cli: Cli) -> str:
    try:
        call(cli)
    except Absent:
        return "absent"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "ok"


def _detached(cli: Cli) -> str:
    """The id of a new sandbox."""
    said = cli.run("sandbox", "create", "base", "--detach")
    found = re.search(r"\bi[a-z0-9]{10,}\b", said)
    assert found, said
    return found[0]


@call("sandbox create, a terminal")
def _(cli: Cli) -> None:
    with cli.in_terminal("sandbox", "create", "base") as terminal:
        terminal.screen.until(PROMPT, SECONDS)
        terminal.type("tty; stty size\r")
        terminal.screen.until(r"^/dev/pts/\d+\n24 80$")
        terminal.type("exit\r")
        assert terminal.end() == 0


@call("sandbox connect, a terminal")
def _(cli: Cli) -> None:
    with cli.in_terminal("sandbox", "connect", cli.sandbox_id, size=(30, 100)) as terminal:
        terminal.screen.until(PROMPT, SECONDS)
        terminal.type("stty size\r")
        terminal.screen.until("^30 100$")
        terminal.resize(20, 60)
        time.sleep(1)  # the client tells of it when it gets round to it
        terminal.type("stty size\r")
        terminal.screen.until("^20 60$")
        terminal.type("exit\r")
        assert terminal.end() == 0


@call("sandbox connect, a program that fills the screen")
def _(cli: Cli) -> None:
    with cli.in_terminal("sandbox", "connect", cli.sandbox_id) as terminal:
        terminal.screen.until(PROMPT, SECONDS)
        terminal.type("vim -u NONE note.txt\r")
        terminal.screen.until(r"^~$")
        terminal.type("iwritten in vim\x1b")
        terminal.screen.until(r"\Awritten in vim$")
        terminal.type(":wq\r")
        terminal.screen.until(PROMPT)
        terminal.type("cat note.txt; exit\r")
        terminal.screen.until(r"^written in vim$")
        assert terminal.end() == 0


@call("sandbox create --detach")
def _(cli: Cli) -> None:
    cli.run("sandbox", "kill", _detached(cli))


@call("sandbox list")
def _(cli: Cli) -> None:
    said = cli.run("sandbox", "list")
    assert cli.sandbox_id in said, said


@call("sandbox list, as JSON")
def _(cli: Cli) -> None:
    listed = json.loads(cli.run("sandbox", "list", "--format", "json"))
    (mine,) = (each for each in listed if each["sandboxId"] == cli.sandbox_id)
    assert mine["state"] == "running", mine


@call("sandbox info")
def _(cli: Cli) -> None:
    said = cli.run("sandbox", "info", cli.sandbox_id)
    assert f"Sandbox ID: {cli.sandbox_id}" in said, said


@call("sandbox exec")
def _(cli: Cli) -> None:
    assert cli.run("sandbox", "exec", cli.sandbox_id, "--", "echo", "hello there") == (
        "hello there\n"
    )


@call("sandbox exec, an exit code")
def _(cli: Cli) -> None:
    script = "echo out; echo err >&2; exit 3"
    said = cli.run("sandbox", "exec", cli.sandbox_id, "--", "sh", "-c", script, code=3)
    assert "out\n" in said, said
    assert "err\n" in said, said


@call("sandbox exec, piped input")
def _(cli: Cli) -> None:
    given = "x" * 300_000
    said = cli.run("sandbox", "exec", cli.sandbox_id, "--", "wc", "-c", given=given)
    assert said.split() == ["300000"], said


@call("sandbox exec, user, directory and variables")
def _(cli: Cli) -> None:
    options = ["--user", "root", "--cwd", "/tmp", "--env", "A=b c"]
    script = 'echo "$(id -un) $PWD $A"'
    said = cli.run("sandbox", "exec", *options, cli.sandbox_id, "--", "sh", "-c", script)
    assert said == "root /tmp b c\n", said


@call("sandbox exec, in the background")
def _(cli: Cli) -> None:
    said = cli.run("sandbox", "exec", "--background", cli.sandbox_id, "--", "sleep", "300")
    pid = said.strip()
    assert pid.isdigit(), said
    cli.run("sandbox", "exec", cli.sandbox_id, "--", "kill", pid)


@call("sandbox logs")
def _(cli: Cli) -> None:
    said = cli.run("sandbox", "logs", cli.sandbox_id)
    assert "sandbox started" in said, said


@call("sandbox metrics")
def _(cli: Cli) -> None:
    said = cli.run("sandbox", "metrics", cli.sandbox_id)
    assert re.search(r"CPU.*Memory.*Disk", said), said


@call("sandbox pause and resume")
def _(cli: Cli) -> None:
    paused = _detached(cli)
    cli.run("sandbox", "pause", paused)
    assert paused in cli.run("sandbox", "list", "--state", "paused")
    cli.run("sandbox", "resume", paused)
    assert paused in cli.run("sandbox", "list")
    cli.run("sandbox", "kill", paused)


@call("sandbox kill")
def _(cli: Cli) -> None:
    with _sandbox_in_terminal(cli) as ended:
        assert "has been killed" in cli.run("sandbox", "kill", ended)
        assert "wasn't found" in cli.run("sandbox", "kill", ended)
        assert ended not in cli.run("sandbox", "list")


@call("template list")
def _(cli: Cli) -> None:
    said = cli.run("template", "list")
    assert re.search(r"\bbase\b.*\n.*code-interpreter-v1", said), said


@call("template list, as JSON")
def _(cli: Cli) -> None:
    listed = json.loads(cli.run("template", "list", "--format", "json"))
    assert {each["templateID"] for each in listed} >= {"base", "code-interpreter-v1"}, listed
