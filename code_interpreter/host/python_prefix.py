"""What sandboxes see of the Python that this host was installed with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_PROGRAMS = re.compile(r"python[0-9.]*(-config)?")
_LIBRARIES = re.compile(r"python[0-9.]+|pkgconfig|(tcl|tk|itcl|thread)[0-9.]+")
_PACKAGES = ("site-packages", "dist-packages")


def unneeded(prefix: Path) -> tuple[str, ...]:
    """What a sandbox's Python can do without, relative to ``prefix``.

    It needs the interpreter, its shared libraries, headers and standard library. Packages
    that somebody installed there, and what else stands there, are the host's own.
    """
    return tuple(sorted(str(path.relative_to(prefix)) for path in _unneeded(prefix)))


def _unneeded(prefix: Path) -> Iterator[Path]:
    for path in prefix.iterdir():
        if path.name not in ("bin", "include", "lib"):
            yield path
    for path in _entries(prefix / "bin"):
        if not _PROGRAMS.fullmatch(path.name):
            yield path
    for path in _entries(prefix / "lib"):
        if path.is_dir() and not _LIBRARIES.fullmatch(path.name):
            yield path
        else:
            yield from (path / name for name in _PACKAGES if (path / name).is_dir())


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []
