"""Makes the kernel object with its shell, without anything that a fork could not take along."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

INLINE = "module://matplotlib_inline.backend_inline"


def build() -> Any:
    """A kernel without sockets, threads or event loop."""
    os.environ.setdefault("MPLBACKEND", INLINE)
    _without_debugger()
    from IPython.core.profiledir import ProfileDir
    from jupyter_client.session import Session
    from traitlets import observe
    from traitlets.config import Config

    from sandbox_kernel.kernel import SandboxKernel

    class Profile(ProfileDir):  # type: ignore[misc]
        """Names the directory; whatever writes to it makes it."""

        @observe("location")
        def _location_changed(self, change: Any) -> None:
            pass

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Context"
    config.InteractiveShell.separate_in = ""
    home = Path.home()
    profile = Profile(location=str(home / ".ipython" / "profile_default"))
    return SandboxKernel.instance(
        config=config,
        session=Session(config=config, key=b"", username="sandbox"),
        profile_dir=profile,
        user_ns={},
        log=_log(),
    )


def _log() -> logging.Logger:
    """Errors of the kernel itself, to the process's original standard error."""
    log = logging.getLogger("sandbox_kernel")
    log.setLevel(logging.ERROR)
    log.propagate = False
    return log


def _without_debugger() -> None:
    """ipykernel's debugger costs 7 MiB and 47 ms; cells may still import debugpy."""
    if "ipykernel.debugger" in sys.modules:
        return
    absent = "debugpy" not in sys.modules
    if absent:
        sys.modules["debugpy"] = None  # type: ignore[assignment]
    try:
        import ipykernel.debugger  # noqa: F401
    finally:
        if absent:
            del sys.modules["debugpy"]
