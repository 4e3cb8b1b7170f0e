"""Terminals: ``sandbox.pty`` of E2B's Python client, and programs that fill the screen."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from e2b import (
    CommandExitException,
    InvalidArgumentException,
    PtySize,
    Sandbox,
    SandboxException,
)

from tests.terminal import Screen

LARGEST_SHOWN = (200, 400)
"""Rows and columns."""


class Terminal:
    """A terminal and a thread that reads it."""

    def __init__(
        self,
        box: Sandbox,
        *,
        size: tuple[int, int] = (24, 80),
        pid: int | None = None,
        **options: Any,
    ) -> None:
        self.box = box
        self.handle = (
            box.pty.create(PtySize(*size), **options) if pid is None else box.pty.connect(pid)
        )
        self.pid = self.handle.pid
        self.screen = Screen(*map(min, size, LARGEST_SHOWN))
        self.error: Exception | None = None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            self.handle.wait(on_pty=self.screen.feed)
        except Exception as error:
            self.error = error

    @property
    def output(self) -> bytes:
        return self.screen.output

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        self.box.pty.resize(self.pid, PtySize(rows, columns))

    def send(self, text: str) -> None:
        self.box.pty.send_stdin(self.pid, text.encode())

    def expect(self, pattern: str, seconds: float = 10) -> re.Match[bytes]:
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern.encode(), self.output)) is None:
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)
        return found

    def end(self) -> Exception | None:
        self._reader.join(10)
        assert not self._reader.is_alive()
        return self.error


def test_a_session(box: Sandbox) -> None:
    terminal = Terminal(box)
    terminal.send("tty; echo $TERM $LANG; stty size; whoami; shopt login_shell\n")
    terminal.expect(r"/dev/pts/\d+\r\n")
    terminal.expect(r"xterm-256color C.UTF-8\r\n24 80\r\nuser\r\nlogin_shell\s+on\r\n")
    terminal.send("exit\n")
    assert terminal.end() is None


def test_the_terminal_belongs_to_the_user(box: Sandbox) -> None:
    terminal = Terminal(box, cwd="/tmp", envs={"MINE": "x y"})
    terminal.send('stat -c %U $(tty); echo hello > $(tty); echo "$PWD [$MINE]"; exit 3\n')
    error = terminal.end()
    assert b"user\r\nhello\r\n/tmp [x y]\r\n" in terminal.output
    assert isinstance(error, CommandExitException)
    assert error.exit_code == 3


def test_resizing(box: Sandbox) -> None:
    terminal = Terminal(box, size=(10, 40))
    terminal.send("trap 'echo changed; stty size' WINCH; stty size\n")
    terminal.expect(r"10 40\r\n")
    box.pty.resize(terminal.pid, PtySize(rows=33, cols=99))
    terminal.send("\n")
    terminal.expect(r"changed\r\n33 99\r\n")
    terminal.handle.kill()
    assert isinstance(terminal.end(), CommandExitException)


def test_a_size_that_no_terminal_has(box: Sandbox) -> None:
    for size in (PtySize(rows=70_000, cols=80), PtySize(rows=24, cols=65_536)):
        with pytest.raises(InvalidArgumentException, match="at most 65535"):
            box.pty.create(size)
        terminal = Terminal(box, size=(65_535, 65_535))
        with pytest.raises(InvalidArgumentException, match="at most 65535"):
            box.pty.resize(terminal.pid, size)
        assert terminal.handle.kill() is True
        terminal.end()


def test_the_keys_for_interrupt_and_end(box: Sandbox) -> None:
    terminal = Terminal(box)
    terminal.expect(r"\$ ")
    terminal.send("sleep 100\n")
    time.sleep(0.3)
    terminal.send("\x03")
    terminal.send("echo code $?\n")
    terminal.expect(r"code 130\r\n")
    terminal.send("\x04")
    error = terminal.end()
    assert error is None or isinstance(error, CommandExitException)


def test_connecting_again(box: Sandbox) -> None:
    left = box.pty.create(PtySize(rows=24, cols=80))
    box.pty.send_stdin(left.pid, b"X=kept; touch ready\n")
    left.disconnect()
    while not box.files.exists("ready"):
        time.sleep(0.05)
    terminal = Terminal(box, pid=left.pid)
    terminal.send("echo two-$X; exit\n")
    assert terminal.end() is None
    assert b"two-kept\r\n" in terminal.output


def test_killing(box: Sandbox) -> None:
    terminal = Terminal(box)
    assert box.pty.kill(terminal.pid) is True
    error = terminal.end()
    assert isinstance(error, CommandExitException)
    assert (error.exit_code, error.error) == (-1, "signal: killed")
    assert box.pty.kill(terminal.pid) is False


def test_much_input_and_output(box: Sandbox) -> None:
    terminal = Terminal(box)
    terminal.send("stty raw -echo; head -c 3000000 | wc -c; seq 100000 | md5sum; stty sane; exit\n")
    time.sleep(0.5)
    for _ in range(30):
        terminal.send("x" * 100_000)
    terminal.end()
    assert b"3000000" in terminal.output
    everything = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
    assert hashlib.md5(everything).hexdigest().encode() in terminal.output


def test_input_of_the_wrong_kind(box: Sandbox) -> None:
    terminal = Terminal(box)
    with pytest.raises(SandboxException, match="send pty input, not stdin"):
        box.commands.send_stdin(terminal.pid, "x")
    with pytest.raises(SandboxException, match=r"Ctrl-D \(0x04\)"):
        box.commands.close_stdin(terminal.pid)
    terminal.handle.kill()
    terminal.end()
    plain = box.commands.run("sleep 100", background=True, stdin=True)
    with pytest.raises(SandboxException, match="has no terminal"):
        box.pty.send_stdin(plain.pid, b"x")
    with pytest.raises(SandboxException, match="has no terminal"):
        box.pty.resize(plain.pid, PtySize(rows=1, cols=1))
    plain.kill()


PROMPT = r"^user@\S+:\S+\$$"


@pytest.fixture
def terminal(box: Sandbox) -> Iterator[Terminal]:
    """One with a prompt, which has to be there again in the end."""
    made = Terminal(box)
    made.screen.until(PROMPT)
    yield made
    made.screen.until(PROMPT)
    made.send("exit\n")
    made.end()


def test_vim(box: Sandbox, terminal: Terminal, place: str) -> None:
    terminal.send(f"clear; vim -u NONE {place}/edited.txt\n")
    terminal.screen.until(r"\A\n(~\n){22}.*\[New")
    terminal.send("ifirst line\nsecond line\x1b")
    terminal.screen.until(r"\Afirst line\nsecond line\n~")
    terminal.resize(12, 40)
    terminal.screen.until(r"\Afirst line\nsecond line\n(~\n){9}")
    terminal.send("ggdd:set number\n")
    terminal.screen.until(r"\A +1 second line\n~")
    terminal.send(":wq\n")
    terminal.screen.until(PROMPT)
    assert box.files.read(f"{place}/edited.txt") == "second line\n"


def test_top(box: Sandbox, terminal: Terminal) -> None:
    sleeper = box.commands.run("exec -a dozer sleep 100", background=True)
    terminal.send("top -c -d 0.5\n")
    terminal.screen.until(rf"\Atop - .*[\s\S]*PID\s+USER[\s\S]*{sleeper.pid}\s+user.*dozer")
    terminal.resize(10, 100)
    terminal.screen.until(r"\Atop - (.*\n){6,}.*COMMAND")
    sleeper.kill()
    terminal.screen.until_gone(r"dozer")
    terminal.send("q")


def test_htop(terminal: Terminal) -> None:
    terminal.send("htop\n")
    terminal.screen.until(r"Tasks:.*[\s\S]*PID.USER[\s\S]*F1Help.*F10Quit")
    terminal.send("\x1b[21~")  # F10


def test_tmux(box: Sandbox, terminal: Terminal) -> None:
    """Two panes, in the lower of which htop is; left and come back to."""
    terminal.send("clear; tmux new-session -s work\n")
    terminal.screen.until(r"^\[work\] 0:bash\*")
    terminal.send("echo upper-$((1+1))\n")
    terminal.screen.until("^upper-2$")
    terminal.send('\x02"')
    terminal.screen.until(r"^─{10,}")
    terminal.send("htop\n")
    terminal.screen.until(r"^upper-2$[\s\S]*^─{10,}[\s\S]*F10Quit")
    terminal.resize(40, 120)
    terminal.screen.until(r"^─{100,}[\s\S]*F10Quit")
    terminal.send("\x02d")
    terminal.screen.until(r"\[detached \(from session work\)\]")
    terminal.send("tmux attach -t work\n")
    terminal.screen.until(r"^upper-2$[\s\S]*F10Quit")
    box.commands.run("tmux kill-server")
    terminal.screen.until(r"\[server exited|\[exited\]|server exited")


def test_a_pager(terminal: Terminal) -> None:
    terminal.send("seq 1000 | less\n")
    terminal.screen.until(r"\A1\n2\n3\n[\s\S]*^23\n:")
    terminal.send("G")
    terminal.screen.until(r"^1000\n\(END\)")
    terminal.send("/^50$\nq")
