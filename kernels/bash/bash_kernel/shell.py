"""A live, interactive bash without a terminal.

Interactive, because only then an interrupt makes it drop what it runs and read on. It is
told what to do by single lines on its standard input; cells and variables wait in files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PRELUDE = Path(__file__).with_name("prelude.sh")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AFTER = "{{ __cell_status={status}; __cell_x=${{-//[!x]/}}; set +x; }} 2>/dev/null"
"""``set -x`` is for what cells do."""
INTERRUPTED = 130
"""The exit status of a command that was interrupted, as shells have it."""


class Bash:
    """``status`` is a descriptor that becomes readable when a cell has ended."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="bash-kernel-"))
        self._cell = self._directory / "cell"
        self.status, status_write = os.pipe2(os.O_CLOEXEC)
        errors = os.dup(2)
        environment = {
            **os.environ,
            "__cell_out": str(status_write),
            "__cell_err": str(errors),
            "TERM": os.environ.get("TERM", "dumb"),
        }
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "--noediting", "-i"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it has to say about having no terminal
            env=environment,
            pass_fds=[status_write, errors],
            bufsize=0,
        )
        os.close(status_write)
        os.close(errors)
        os.set_blocking(self.status, False)
        self._say(f". {_PRELUDE}; unset __cell_err")

    def run(self, code: str, variables: Mapping[str, str]) -> None:
        """Start a cell; its exit status will come on ``status``."""
        self._cell.write_text(code.replace("\0", ""))
        steps = [
            f"IFS= read -r -d '' __cell <{self._cell}",
            "__cell_give $__cell_status",
            'eval "${__cell_x:+set -x;}$__cell" </dev/null',
            _AFTER.format(status="$?"),
        ]
        if variables:
            steps.insert(0, f"__cell_set {self._write('variables', variables)}")
        self._say("; ".join([*steps, self._report(bool(variables))]))

    def report(self) -> None:
        """After an interrupt, which made bash forget to tell: have it tell now."""
        self._say(f"{_AFTER.format(status=INTERRUPTED)}; {self._report(True)}")

    def set_variables(self, variables: Mapping[str, str], gone: list[str]) -> None:
        """Set some and remove others, for good."""
        names = self._directory / "gone"
        names.write_text("".join(f"{name}\0" for name in gone if _NAME.fullmatch(name)))
        self._say(f"__cell_set_for_good {self._write('sandbox', variables)} {names}")

    def read_status(self) -> int | None:
        """The exit status of the cell, or None if none has come (or bash is gone)."""
        try:
            told = os.read(self.status, 4096).split(b"\0")
        except BlockingIOError:
            return None
        return int(told[0]) if told[0] else None

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _report(self, restore: bool) -> str:
        undo = "__cell_restore; " if restore else ""
        return f"{undo}printf '%d\\0' $__cell_status >&$__cell_out"

    def _write(self, name: str, variables: Mapping[str, str]) -> Path:
        """bash knows no variables by other names than identifiers."""
        file = self._directory / name
        pairs = (f"{k}\0{v}\0" for k, v in variables.items() if _NAME.fullmatch(k))
        file.write_text("".join(pairs), errors="surrogateescape")
        return file

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
