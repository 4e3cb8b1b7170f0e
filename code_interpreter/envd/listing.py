"""Directories, listed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from e2b.envd.filesystem.filesystem_pb import EntryInfo, FileType

from code_interpreter.envd.entries import Describer
from code_interpreter.envd.tree import Tree

MOST_ENTRIES = 200_000
MOST_LETTERS = 16 << 20
"""Of all paths of one answer, which has to fit into memory; those of deep directories are long."""


def list_directory(tree: Tree, directory: int, path: str, depth: int) -> list[EntryInfo]:
    """All entries below an open directory, ``depth`` levels of them; ``path`` is its name.

    Depth first, a directory before what is in it, names in order. Raises OSError.
    """
    found, letters = [], 0
    describer = Describer(tree)
    levels = [_Level(tree, os.dup(directory), path)]
    try:
        while levels:
            entry = levels[-1].next(describer)
            if entry is None:
                levels.pop().close()
                continue
            found.append(entry)
            letters += len(entry.path)
            if len(found) > MOST_ENTRIES or letters > MOST_LETTERS:
                most = f"{MOST_ENTRIES} entries, or {MOST_LETTERS} letters of their paths"
                raise OSError(errno.EINVAL, f"More than {most}; list fewer levels", path)
            if len(levels) < depth and _is_directory(entry):
                levels += levels[-1].enter()
    finally:
        for level in levels:
            level.close()
    return found


def _is_directory(entry: EntryInfo) -> bool:
    return entry.type is FileType.DIRECTORY and not entry.is_symlink


class _Level:
    """A directory that is being gone through; owns its descriptor."""

    def __init__(self, tree: Tree, descriptor: int, path: str) -> None:
        self._tree = tree
        self._descriptor = descriptor
        self._prefix = path.rstrip("/") + "/"
        self._name = ""
        try:
            self._names = iter(sorted(os.listdir(descriptor)))
        except BaseException:
            os.close(descriptor)
            raise

    def next(self, describer: Describer) -> EntryInfo | None:
        for name in self._names:
            self._name = name
            try:
                return describer.describe(self._descriptor, name, self._prefix + name)
            except OSError:
                continue  # removed meanwhile
        return None

    def enter(self) -> Iterator[_Level]:
        """The directory that was told of last, if it can still be entered."""
        try:
            descriptor = self._tree.enter(self._name, self._descriptor)
        except OSError:  # gone, a link meanwhile, or not to be looked into
            return
        yield _Level(self._tree, descriptor, self._prefix + self._name)

    def close(self) -> None:
        os.close(self._descriptor)
