"""What envd was told, kept for its successor: a new envd must not forget the access token."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from code_interpreter.envd.state import InitBody, State
from code_interpreter.guest.introduction import MEMORY


class Memory:
    """A file in the state directory, which only supervisors may read."""

    def __init__(self, state_directory: str) -> None:
        self._path = Path(state_directory, MEMORY)

    def recall(self, state: State) -> None:
        """Initialise ``state`` as an earlier envd of this box was."""
        try:
            written = self._path.read_bytes()
        except OSError:
            return
        state.initialise(InitBody.model_validate_json(written))

    def keep(self, state: State) -> None:
        """Best effort: with no place to write, a successor is told anew by the host."""
        temporary = self._path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
                file.write(state.as_body().model_dump_json(by_alias=True))
            temporary.replace(self._path)
