"""The names that cells have defined, without running any of their code.

Read by the control thread, also while a cell runs: previews are made of built-in types
only, and nothing that a cell has defined is called: no ``__repr__``, no ``__class__``, no
metaclass. What the cell changes at the same moment is told without what could not be read.
"""

from __future__ import annotations

import contextlib
import reprlib
import sys
from collections.abc import Iterable
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any

MAX_VARIABLES = 1000
MAX_PREVIEW = 200
_EXACT = (type(None), bool, int, float, complex, str, bytes)
_ancestors = type.__dict__["__mro__"].__get__
_MODULE = type.__dict__["__module__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
"""The attributes themselves: a metaclass may have its own idea of them."""
_CONTAINERS = (list, tuple, dict, set, frozenset)


def of_namespace(namespace: dict[str, Any], hidden: dict[str, Any]) -> list[dict[str, Any]]:
    """``name``, ``type``, and where they make sense ``shape``, ``size`` (bytes), ``preview``."""
    found = []
    for name, value in list(namespace.items()):
        if type(name) is not str or name.startswith("_"):
            continue
        if ModuleType in _ancestors(type(value)):
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
        with contextlib.suppress(Exception):  # it is being changed, or is not what it says
            told = read(value, kind)
            if told is not None:
                described[key] = told
    return described


def _type_name(kind: type) -> str:
    module, name = _module(kind), _QUALNAME(kind)
    return name if module in ("builtins", "__main__", "") else f"{module}.{name}"


def _module(kind: type) -> str:
    try:
        module = _MODULE(kind)
    except AttributeError:
        return ""
    return module if type(module) is str else ""


def _is_known_array(kind: type) -> bool:
    return _module(kind).partition(".")[0] in ("numpy", "pandas", "polars", "pyarrow", "torch")


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
    if _module(kind) == "numpy":
        return int(getattr(value, "nbytes", 0)) or None
    if _module(kind).startswith("pandas") and _QUALNAME(kind) == "DataFrame":
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

    # The base class sorts these: all of them, by the cell's own comparisons.

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        pairs = (
            f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}"
            for key, value in islice(x.items(), self.maxdict)
        )
        return f"{{{self._joined(pairs, level, len(x) > self.maxdict)}}}"

    def repr_set(self, x: set[Any] | frozenset[Any], level: int) -> str:
        if not x:
            return "set()"
        values = (self.repr1(value, level - 1) for value in islice(x, self.maxset))
        return f"{{{self._joined(values, level, len(x) > self.maxset)}}}"

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        return f"frozenset({self.repr_set(x, level) if x else ''})"

    @staticmethod
    def _joined(parts: Iterable[str], level: int, more: bool) -> str:
        shown = list(parts) if level > 0 else ["..."]
        return ", ".join([*shown, "..."] if more and level > 0 else shown)
