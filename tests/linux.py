"""What tests ask of the machine's kernel, and of processes beside their own."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import pytest


def needs_linux(major: int, minor: int) -> pytest.MarkDecorator:
    """Skips before that version: what is tested is a system call that came with it."""
    here = tuple(int(part) for part in platform.release().split(".")[:2])
    return pytest.mark.skipif(
        here < (major, minor), reason=f"only Linux {major}.{minor} and later can do it"
    )


def fork_server(host: int) -> psutil.Process | None:
    """Of the host with this pid; None while it has none."""
    for child in psutil.Process(host).children():
        try:
            if "code_interpreter.guest.forkserver" in child.cmdline():
                return child
        except psutil.Error:  # it has just ended
            continue
    return None


def user_namespace(pid: int) -> Path:
    """That of user code lies below the one of supervisors."""
    return Path(f"/proc/{pid}/ns/user").readlink()
