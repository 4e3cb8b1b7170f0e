"""`SandboxShell`: the IPython shell with our formatters and quick ``!commands``."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ipykernel.zmqshell import ZMQInteractiveShell

from sandbox_kernel import formatters, pictures
from sandbox_kernel.streams import Stream


class SandboxShell(ZMQInteractiveShell):
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
        if not isinstance(sys.stdout, Stream):
            self.system_piped(cmd)  # %%capture and redirect_stdout want the text itself
            return
        sys.stdout.flush()
        self.user_ns["_exit_code"] = subprocess.call(
            ["/bin/sh", "-c", self.var_expand(cmd, depth=1)], stdin=subprocess.DEVNULL
        )
