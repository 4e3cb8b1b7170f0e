"""The sandbox's bash kernel: one live bash, its output straight to the cell."""

from __future__ import annotations

from typing import Any


def build_bash() -> Any:
    """A kernel without sockets, threads, event loop or bash: `start` brings those."""
    import logging

    from jupyter_client.session import Session

    from bash_kernel.kernel import BashKernel

    log = logging.getLogger("bash_kernel")
    log.setLevel(logging.ERROR)
    log.propagate = False
    return BashKernel(session=Session(key=b"", username="sandbox"), log=log)
