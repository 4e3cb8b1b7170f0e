"""PIL images: saving one to a path shows it too, and ``show`` needs no viewer."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_NAME = "PIL.Image"


def install() -> None:
    """Patch PIL now if it is loaded, else when it is imported."""
    module = sys.modules.get(_NAME)
    if module is not None:
        _patch(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _patch(module)


def _patch(module: ModuleType) -> None:
    image: Any = module.Image  # type: ignore[attr-defined]
    if getattr(image.save, "_shows", False):
        return
    original = image.save

    def save(self: Any, fp: Any, format: str | None = None, **options: Any) -> None:  # noqa: A002
        original(self, fp, format, **options)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if isinstance(fp, (str, os.PathLike)) and not caller.startswith(("PIL.", "matplotlib")):
            _display(self)

    def show(self: Any, *_: Any, **__: Any) -> None:
        _display(self)

    save._shows = True  # type: ignore[attr-defined]
    image.save, image.show = save, show


def _display(image: Any) -> None:
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is not None:
        display(image)
