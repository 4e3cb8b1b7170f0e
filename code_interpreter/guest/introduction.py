"""What a sandbox is told about itself: init marks it, and keeps it for an envd that rests."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from code_interpreter.guest.variables import check_variables
from code_interpreter.protocol.boxes import TEAM_ID

MEMORY = "envd.json"
"""In the state directory: the body of the last ``POST /init`` to envd."""
_MARKS = "/run/e2b"


def keep(body: dict[str, Any], state_directory: str) -> None:
    """Have the next envd begin as if it had been told ``body``. Raises ValueError or OSError.

    A token, once there, is replaced but never taken away.
    """
    check_variables(body["envVars"])
    path = Path(state_directory, MEMORY)
    with contextlib.suppress(FileNotFoundError):
        body = {**json.loads(path.read_bytes()), **_without_none(body)}
    temporary = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
        json.dump(body, file)
    temporary.replace(path)


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def leave_marks(sandbox_id: str, template_id: str) -> None:
    """Files that tell programs in the sandbox where they are. Raises OSError.

    Follows no link, for user code may be there already.
    """
    marks = {
        ".E2B_SANDBOX": "true",
        ".E2B_SANDBOX_ID": sandbox_id,
        ".E2B_TEAM_ID": TEAM_ID,
        ".E2B_TEMPLATE_ID": template_id,
    }
    with contextlib.suppress(FileExistsError):
        os.mkdir(_MARKS)
    directory = os.open(_MARKS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(directory, 0o755)
        for name, value in marks.items():
            _leave_mark(directory, name, value)
    finally:
        os.close(directory)


def _leave_mark(directory: int, name: str, value: str) -> None:
    """A sandbox that was made ahead is told another template's name when it is given out."""
    new = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(new, flags, 0o644, dir_fd=directory), "w") as file:
        file.write(value)
        os.fchmod(file.fileno(), 0o644)  # whatever umask the host has
    os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
