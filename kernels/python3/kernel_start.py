"""The Python kernel's two ways to start: as a program, and as a fork of a warm process.

Cold: ``python3 kernel_start.py CONNECTION_FILE``. Warm: a single-threaded process calls
`warm_up` once, then forks; each child calls `kernel_main`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

_HERE = str(Path(__file__).resolve().parent)
_warm: Any = None


def warm_up() -> None:
    """Do once what every kernel needs: imports, the shell, a first figure and table.

    Starts no thread, event loop or ZeroMQ context, so that forking afterwards is safe.
    """
    global _warm
    # pyarrow's allocator would start a thread when pandas loads it.
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    build, warmth = _import_kernel()
    _warm = build()
    warmth.exercise(_warm)


def kernel_main(connection: dict[str, Any], cwd: str, env: dict[str, str]) -> NoReturn:
    """Be a kernel, in a process that was forked after `warm_up`; never returns.

    ``connection`` is the content of a Jupyter connection file. The caller has set the
    process's environment and working directory to ``env`` and ``cwd`` already.
    """
    kernel = _warm
    if kernel is None:
        build, _ = _import_kernel()
        kernel = build()
    from sandbox_kernel.serve import serve

    serve(kernel, connection)


def _import_kernel() -> tuple[Any, Any]:
    if _HERE not in sys.path:
        sys.path.append(_HERE)
    try:
        from sandbox_kernel import warmth
        from sandbox_kernel.build import build
    finally:
        # What is imported later is found through the package; user code must not see us.
        sys.path[:] = [entry for entry in sys.path if entry != _HERE]
    return build, warmth


if __name__ == "__main__":
    connection_file = Path(sys.argv[1])
    kernel_main(json.loads(connection_file.read_text()), "", {})
