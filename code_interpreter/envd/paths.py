"""Paths as clients write them."""

from __future__ import annotations

import os

from code_interpreter.guest.users import User

LONGEST_PATH = 4095
LONGEST_NAME = 255
"""Bytes, as Linux has it."""


class BadPath(ValueError):
    """The path cannot name a file; the message says why."""


def resolve(path: str, user: User) -> str:
    """An absolute path without ``.`` and ``..``; ``~`` is the user's home.

    A relative path starts at the user's home. Symbolic links are left to the kernel, but
    ``..`` is not: ``link/..`` is the directory that holds the link, as in E2B. Raises
    `BadPath`.
    """
    _check(path)
    home = str(user.home)
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    absolute = os.path.normpath(os.path.join(home, path))
    if absolute.startswith("//"):  # POSIX lets two slashes mean something else
        absolute = absolute[1:]
    _check(absolute)
    return absolute


def _check(path: str) -> None:
    if "\0" in path:
        raise BadPath("a path may not hold a NUL character")
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise BadPath("a path must be valid Unicode") from error
    if len(encoded) > LONGEST_PATH:
        raise BadPath(f"a path has at most {LONGEST_PATH} bytes, this one {len(encoded)}")
    longest = max(map(len, encoded.split(b"/")))
    if longest > LONGEST_NAME:
        raise BadPath(f"a file name has at most {LONGEST_NAME} bytes, this one {longest}")
