"""`SandboxShell`: the IPython shell with our formatters and quick ``!commands``."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQInteractiveShell

from sandbox_kernel import formatters, pictures
from sandbox_kernel.drawings import PLOTLY_MIME, from_plotly_bundle
from sandbox_kernel.streams import Stream


class SandboxDisplayPublisher(ZMQDisplayPublisher):
    def publish(self, data: Any, *arguments: Any, **options: Any) -> None:
        """Plotly's figures show themselves, past all formatters: their charts are added here."""
        if PLOTLY_MIME in data and "e2b/chart" not in data:
            data = {**data, "e2b/chart": from_plotly_bundle(data[PLOTLY_MIME])}
        super().publish(data, *arguments, **options)


class SandboxShell(ZMQInteractiveShell):
    display_pub_class = SandboxDisplayPublisher

    def init_display_formatter(self) -> None:
        super().init_display_formatter()
        formatters.install(self.display_formatter)

    def init_io(self) -> None:
        super().init_io()
        pictures.install()

    def init_profile_dir(self, profile_dir: Any) -> None:
        self.profile_dir = profile_dir

    def system(self, cmd: str) -> None:  # type: ignore[override]
        """Run a shell command; its output reaches the cell through descriptors 1 and 2."""
        command = ["/bin/sh", "-c", self.var_expand(cmd, depth=1)]
        sys.stdout.flush()
        if isinstance(sys.stdout, Stream):
            code = subprocess.call(command, stdin=subprocess.DEVNULL)
        else:
            code = _call_into_stdout(command)
        self.user_ns["_exit_code"] = code


def _call_into_stdout(command: list[str]) -> int:
    """For ``%%capture`` and ``redirect_stdout``, which want the text itself."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
        return process.wait()
