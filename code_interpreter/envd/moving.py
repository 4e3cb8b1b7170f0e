"""Moving files to another file system, as a user of the sandbox does it: with ``mv``."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from code_interpreter.guest.launch import Launcher
from code_interpreter.guest.users import User

_LONGEST_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class Mover:
    """Runs as ``user``, which is root where there is one: owners and modes are kept.

    A program that walks paths, as this one does, must not have the rights of a supervisor.
    """

    launcher: Launcher
    user: User
    path: str
    """Where programs are."""

    def __call__(self, source: str, target: str) -> None:
        """Both are absolute paths. Raises OSError with what ``mv`` said."""
        message_read, message_write = os.pipe2(os.O_CLOEXEC)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            pid = self.launcher.start(
                ["mv", "--no-target-directory", "--", source, target],
                user=self.user,
                env={"PATH": self.path, "LC_ALL": "C.UTF-8"},
                cwd="/",
                stdin=null,
                stdout=null,
                stderr=message_write,
            )
        except BaseException:
            os.close(message_read)
            raise
        finally:
            os.close(null)
            os.close(message_write)
        with open(message_read, "rb") as messages:
            message = messages.read(_LONGEST_MESSAGE).decode(errors="replace").strip()
            messages.read()
        if os.waitpid(pid, 0)[1]:
            no_space = "No space left" in message
            raise OSError(errno.ENOSPC if no_space else errno.EIO, message, target)
