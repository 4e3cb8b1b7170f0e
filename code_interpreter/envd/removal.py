"""Directories, removed with all that is in them."""

from __future__ import annotations

import contextlib
import os
import stat

from code_interpreter.envd.tree import Tree


def remove(tree: Tree, above: int, name: str) -> None:
    """The file or directory ``name`` of an open directory. Follows no links. Raises OSError.

    However deep it is: ``shutil.rmtree`` gives up after a thousand levels.
    """
    if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
        os.unlink(name, dir_fd=above)
        return
    levels = [_Level(tree, above, name)]
    try:
        while levels:
            deeper = levels[-1].empty()
            with contextlib.suppress(FileNotFoundError):  # somebody was faster
                if deeper is None:
                    levels.pop().remove()
                else:
                    levels.append(_Level(tree, levels[-1].descriptor, deeper))
    finally:
        for level in levels:
            os.close(level.descriptor)


class _Level:
    """A directory that is being emptied."""

    def __init__(self, tree: Tree, above: int, name: str) -> None:
        self._above = above
        self._name = name
        self.descriptor = tree.enter(name, above)
        try:
            self._names = iter(os.listdir(self.descriptor))
        except BaseException:
            os.close(self.descriptor)
            raise

    def empty(self) -> str | None:
        """Unlink what is no directory, up to the next one, which is returned."""
        for name in self._names:
            try:
                os.unlink(name, dir_fd=self.descriptor)
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                return name
        return None

    def remove(self) -> None:
        os.close(self.descriptor)
        os.rmdir(self._name, dir_fd=self._above)
