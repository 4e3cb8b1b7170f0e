"""Paths as clients write them, and as the kernel takes them."""

from __future__ import annotations

import os

from code_interpreter.guest.users import User

LONGEST_PATH = 4096
LONGEST_NAME = 255


class BadPath(ValueError):
    """The path cannot name a file; the message says why."""


def resolve(path: str, user: User, workdir: str | None = None) -> str:
    """An absolute path without ``.`` and ``..``; ``~`` is the user's home.

    A relative path starts at ``workdir``, or at the user's home. Symbolic links are left
    to the kernel. Raises `BadPath`.
    """
    if "\0" in path:
        raise BadPath("a path may not hold a NUL character")
    home = str(user.home)
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    absolute = os.path.normpath(os.path.join(workdir or home, path or "."))
    if absolute.startswith("//"):
        absolute = absolute[1:]
    check_length(absolute)
    return absolute


def check_length(path: str) -> None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise BadPath("a path must be valid Unicode") from error
    if len(encoded) >= LONGEST_PATH:
        raise BadPath(f"a path has at most {LONGEST_PATH - 1} bytes, this one {len(encoded)}")
    longest = max(map(len, encoded.split(b"/")), default=0)
    if longest > LONGEST_NAME:
        raise BadPath(f"a file name has at most {LONGEST_NAME} bytes, this one {longest}")


def make_parents(path: str, user: User, *, own: bool) -> None:
    """Make the directories above ``path`` that are not there, owned by the user."""
    make_directories(os.path.dirname(path), user, own=own)


def make_directories(path: str, user: User, *, own: bool) -> None:
    """Raises OSError; FileExistsError or NotADirectoryError where a file is in the way."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory, 0o755)
        os.chmod(directory, 0o755)  # noqa: S103 - E2B's mode, whatever the umask
        if own:
            os.chown(directory, user.uid, user.gid)
