"""The two ways to start our kernels: as a program, and as a fork of a warm process.

Cold: ``python3 kernel_start.py CONNECTION_FILE``. Warm: a single-threaded process calls
`warm_up` once, then forks; each child calls `kernel_main`, and may call `prepare` and
`rehearse` before it knows which kernel it is to be. That stands in the connection's
``kernel_name``: ``python3``, ``bash`` or ``java``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

_HERE = Path(__file__).resolve().parent
_warm: Any = None
_prepared: Any = None


def warm_up() -> None:
    """Do once what every kernel needs: imports, the shell, a first figure and table.

    Starts no thread, event loop or ZeroMQ context, so that forking afterwards is safe.
    """
    global _warm
    # pyarrow's allocator would start a thread when pandas loads it.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    from sandbox_kernel import warmth
    from sandbox_kernel.build import build

    _warm = build()
    warmth.exercise(_warm)


def prepare() -> None:
    """Do what every kernel does, in a process that was forked after `warm_up`."""
    global _prepared
    from sandbox_kernel import serve

    _prepared = serve.prepare()


def rehearse() -> None:
    """Have run a cell, where there is time for it; it leaves no trace in the namespace."""
    from sandbox_kernel import warmth

    warmth.rehearse(_warm)


def kernel_main(connection: dict[str, Any], cwd: str, env: dict[str, str]) -> NoReturn:
    """Be a kernel, in a process that was forked after `warm_up`; never returns.

    ``connection`` is the content of a Jupyter connection file. The caller has set the
    process's environment and working directory to ``env`` and ``cwd`` already.
    """
    from sandbox_kernel import serve

    kernel = _kernel(connection["kernel_name"])
    serve.serve(kernel, _prepared or serve.prepare(), connection)


def _kernel(name: str) -> Any:
    if name == "bash":
        from bash_kernel import build_bash

        return build_bash()
    if name == "java":
        from java_kernel import build_java

        return build_java()
    if _warm is not None:
        return _warm
    from sandbox_kernel.build import build

    return build()


def _import_packages() -> None:
    """Ours, from folders that user code shall not see: what is loaded stays loaded."""
    folders = [str(_HERE.with_name(name)) for name in ("python3", "bash", "java")]
    sys.path += folders
    try:
        import bash_kernel  # noqa: F401
        import java_kernel  # noqa: F401
        import sandbox_kernel  # noqa: F401
    finally:
        sys.path[:] = [entry for entry in sys.path if entry not in folders]


_import_packages()

if __name__ == "__main__":
    connection_file = Path(sys.argv[1])
    kernel_main(json.loads(connection_file.read_text()), "", {})
