"""The sandbox's Java kernel: JShell in a JVM of its own."""

from __future__ import annotations

from typing import Any


def build_java() -> Any:
    """A kernel without sockets, threads, event loop or JVM: `start` brings those."""
    import logging

    from jupyter_client.session import Session

    from java_kernel.kernel import JavaKernel

    log = logging.getLogger("java_kernel")
    log.setLevel(logging.ERROR)
    log.propagate = False
    return JavaKernel(session=Session(key=b"", username="sandbox"), log=log)
