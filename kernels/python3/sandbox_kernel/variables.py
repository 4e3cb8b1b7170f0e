"""The names that cells have defined, without running any of their code.

Read by the control thread, also while a cell runs: previews are made of built-in types
only, and no object's own ``__repr__`` is called.
"""

from __future__ import annotations

import reprlib
import sys
from types import FunctionType, ModuleType
from typing import Any

MAX_VARIABLES = 1000
MAX_PREVIEW = 200
_EXACT = (type(None), bool, int, float, complex, str, bytes)
_CONTAINERS = (list, tuple, dict, set, frozenset)


def of_namespace(namespace: dict[str, Any], hidden: dict[str, Any]) -> list[dict[str, Any]]:
    """``name``, ``type``, and where they make sense ``shape``, ``size`` (bytes), ``preview``."""
    found = []
    for name, value in list(namespace.items()):
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        if name in hidden and hidden[name] is value:
            continue
        found.append(_describe(name, value))
        if len(found) == MAX_VARIABLES:
            break
    return found


def _describe(name: str, value: Any) -> dict[str, Any]:
    kind = type(value)
    described: dict[str, Any] = {"name": name, "type": _type_name(kind)}
    for key, read in (("shape", _shape), ("size", _size), ("preview", _preview)):
        told = read(value, kind)
        if told is not None:
            described[key] = told
    return described


def _type_name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__name__}"


def _is_known_array(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("numpy", "pandas", "polars", "pyarrow", "torch")


def _shape(value: Any, kind: type) -> list[int] | None:
    if kind in (str, bytes, *_CONTAINERS):
        return [len(value)]
    if not _is_known_array(kind):
        return None
    shape = getattr(value, "shape", None)
    return [int(each) for each in shape] if isinstance(shape, tuple) else None


def _size(value: Any, kind: type) -> int | None:
    if kind in _EXACT or kind in _CONTAINERS:
        return sys.getsizeof(value)
    if kind.__module__ == "numpy":
        return int(getattr(value, "nbytes", 0)) or None
    if kind.__module__.startswith("pandas") and kind.__name__ == "DataFrame":
        return int(value.memory_usage(index=True).sum())
    return None


def _preview(value: Any, kind: type) -> str | None:
    if kind is FunctionType:
        return f"{value.__name__}{_signature(value)}"
    if kind in _EXACT or kind in _CONTAINERS:
        return _Shortened().repr(value)[:MAX_PREVIEW]
    return None


def _signature(function: FunctionType) -> str:
    code = function.__code__
    return f"({', '.join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])})"


class _Shortened(reprlib.Repr):
    """Only built-in types are shown by their own repr."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = MAX_PREVIEW
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 10

    def repr1(self, x: Any, level: int) -> str:
        if type(x) in _EXACT or type(x) in _CONTAINERS:
            return super().repr1(x, level)
        return f"<{_type_name(type(x))}>"
