"""Launching without isolation: what the child is given, and which error names what."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import UnknownUser, current_user, find_user


def _run(
    argv: list[str], tmp_path: Path, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> tuple[int, str]:
    read, write = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        pid = Launcher(None).start(
            argv,
            user=current_user(tmp_path),
            env={"PATH": os.defpath} if env is None else env,
            cwd=str(tmp_path) if cwd is None else cwd,
            stdin=null,
            stdout=write,
            stderr=write,
        )
    finally:
        os.close(write)
        os.close(null)
    with os.fdopen(read) as output:
        text = output.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def test_environment_directory_and_exit_code_are_the_given_ones(tmp_path: Path) -> None:
    code, text = _run(
        ["sh", "-c", "echo $A; pwd; exit 3"], tmp_path, {"PATH": os.defpath, "A": "ä 'b"}
    )
    assert (code, text) == (3, f"ä 'b\n{tmp_path}\n")


def test_child_leads_a_session_and_has_three_descriptors(tmp_path: Path) -> None:
    leak = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leak, True)
    script = "ls /proc/self/fd; echo $$; ps -o sid= -p $$"
    _, text = _run(["sh", "-c", script], tmp_path)
    os.close(leak)
    lines = text.split()
    assert lines[:4] == ["0", "1", "2", "3"], "3 is ls reading the directory"
    assert lines[4] == lines[5]


def test_signals_are_as_a_shell_gives_them(tmp_path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        _, text = _run(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], tmp_path)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    masks = dict(line.split(":\t") for line in text.splitlines())
    assert int(masks["SigBlk"], 16) == 0
    assert int(masks["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        _run(["no-such-program"], tmp_path)
    assert caught.value.filename == "no-such-program"


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        _run(["true"], tmp_path, cwd="/no/such/directory")
    assert caught.value.filename == "/no/such/directory"


def test_unknown_user_is_named() -> None:
    with pytest.raises(UnknownUser, match=r"invalid username: 'nobody-of-that-name'"):
        find_user("nobody-of-that-name")
