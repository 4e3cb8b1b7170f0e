"""Where supervisors import from, once they are in a box: only what its root cannot write.

What is loaded already was loaded before the box was made; what is imported later would
come from the box's own ``/usr``. So supervisors get one finder of their own. It touches no
loaded module: memory that is written in a box is a copy of its own.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from types import ModuleType

from code_interpreter.protocol.boxes import PACKAGE

_MOVED = {"/usr/local": f"{PACKAGE}/local", sysconfig.get_path("stdlib"): f"{PACKAGE}/stdlib"}
"""Directory as the fork server sees it → the read-only view of it in every box."""


class ReadOnlyPackages(MetaPathFinder):
    """Finds modules in the read-only views, wherever their packages were loaded from."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, moved(sys.path if path is None else path), target)

    find_distributions = staticmethod(PathFinder.find_distributions)


_finder = ReadOnlyPackages()


def use_read_only_packages() -> None:
    """Import from now on, and for good, only what root of the box cannot write."""
    sys.path[:] = moved(sys.path)
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, _finder]


def moved(places: Iterable[str]) -> list[str]:
    """The read-only views of directories; those that have none are left out."""
    found = (_moved(place) for place in places)
    return [place for place in found if place is not None]


def _moved(place: str) -> str | None:
    if _is_below(place, PACKAGE):
        return place
    for before, after in _MOVED.items():
        if _is_below(place, before):
            return after + place.removeprefix(before)
    return None


def _is_below(place: str, directory: str) -> bool:
    return place == directory or place.startswith(f"{directory}/")
