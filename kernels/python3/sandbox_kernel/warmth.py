"""What a process goes through once so that its forks find everything in memory and in use."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from typing import Any

_MODULES = (
    "numpy",
    "pandas",
    "matplotlib",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "PIL.Image",
    "orjson",
    "pydantic",
    "e2b_charts",
    "ipykernel.control",
    "ipykernel.heartbeat",
    "sandbox_kernel.serve",
    "sandbox_kernel.requests",
    "multiprocessing",
    "concurrent.futures",
    "subprocess",
    "json",
)
_CELLS = (
    "1 + 1",
    "[1, {'a': 2.5}]",
    "import numpy as np, pandas as pd; pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})",
    "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.title('t'); plt.show()",
    "raise ValueError('warm')",
    "import numpy as np; np.ones((4, 4)) @ np.ones((4, 4))",
)
_SMALL_CELLS = ("1 + 1", "print(1)", "import numpy, pandas, matplotlib.pyplot", "x = [1, 2]\nx")
_TIMES = 20
"""Python rewrites code (its counters and caches) for a while until it lets it be."""


def exercise(kernel: Any) -> None:
    """Import what cells use most and run a few cells, leaving no trace in the namespace."""
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    shell = kernel.shell
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        for cell in _CELLS:
            shell.run_cell(cell, store_history=True)
        _forget_fonts()
        _forget_attributes()
        for cell in _SMALL_CELLS * _TIMES:
            shell.run_cell(cell, store_history=True)
    _forget(shell)


def rehearse(kernel: Any) -> None:
    """Write to the memory that a first cell writes to: it may be that nobody copies it ahead."""
    kernel.shell.run_cell("1 + 1;", store_history=False)


def _forget_fonts() -> None:
    """matplotlib would free them in every fork."""
    from matplotlib import font_manager

    forget = getattr(font_manager._get_font, "cache_clear", None)
    if forget is not None:
        forget()


def _forget_attributes() -> None:
    """Python's cache of attributes holds on to their names, here mostly matplotlib's.

    A fork that looks up something else writes to the name that it puts out. Now there is
    room for those that all forks look up.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()


def _forget(shell: Any) -> None:
    import builtins

    shell.reset(new_session=True, aggressive=False)
    shell.execution_count = 1
    shell.history_manager.reset(new_session=False)
    builtins.__dict__.pop("_", None)
    shell._last_traceback = None
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
