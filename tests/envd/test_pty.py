"""Terminals: ``sandbox.pty`` of E2B's Python client, and programs that fill the screen."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from typing import Any

import pytest
from e2b import CommandExitException, PtySize, Sandbox, SandboxException


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
        self.output = b""
        self.error: Exception | None = None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            self.handle.wait(on_pty=self._add)
        except Exception as error:
            self.error = error

    def _add(self, data: bytes) -> None:
        self.output += data

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


def test_vim(box: Sandbox) -> None:
    if box.commands.run("command -v vim || true").stdout == "":
        pytest.skip("this machine's /usr, which sandboxes are given, has no vim")
    terminal = Terminal(box)
    terminal.send("vim -u NONE edited.txt\n")
    terminal.expect(r"\x1b\[\?1049h")
    terminal.send("ihello from vim\x1b")
    time.sleep(0.3)
    terminal.send(":wq\n")
    terminal.expect(r"\x1b\[\?1049l")
    terminal.send("exit\n")
    terminal.end()
    assert box.files.read("edited.txt") == "hello from vim\n"


def test_top(box: Sandbox) -> None:
    terminal = Terminal(box)
    terminal.send("top\n")
    terminal.expect(r"PID\s+.*USER")
    terminal.send("q")
    terminal.expect(r"\[K\S*\$ $")
    terminal.send("echo after-$((1+1)); exit\n")
    terminal.expect(r"after-2\r\n")
    terminal.end()


def test_tmux(box: Sandbox) -> None:
    if box.commands.run("command -v tmux || true").stdout == "":
        pytest.skip("this machine's /usr, which sandboxes are given, has no tmux")
    terminal = Terminal(box)
    terminal.send("tmux new-session 'echo in-tmux-$((1+1)); sleep 1'\n")
    terminal.expect("in-tmux-2")
    terminal.expect(r"\[exited\]")
    terminal.send("exit\n")
    terminal.end()
