"""Directories of the host that the view, and each box, shows read-only.

Overlays show them and not bind mounts: of those a box could read in /proc/self/mountinfo
where on the host they are, and an overlay can leave things out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import ExitStack

from code_interpreter.guest import syscalls
from code_interpreter.protocol.boxes import Shown


def show(directories: Iterable[Shown], top: str, masks: str, *, user_xattr: bool) -> None:
    """Mount each below ``top``; ``masks`` is a directory that is free to be mounted over."""
    syscalls.mount("tmpfs", masks, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    try:
        for number, shown in enumerate(directories):
            mask = f"{masks}/{number}"
            os.mkdir(mask)
            for name in shown.hidden:
                _white_out(f"{mask}/{name}")
            _show(mask, shown.source, top + shown.at, user_xattr=user_xattr)
    finally:
        syscalls.unmount(masks)  # the overlays hold on to it


def _white_out(path: str) -> None:
    """What hides a file of the layer below, as the kernel's documentation of overlayfs has it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def _show(mask: str, source: str, target: str, *, user_xattr: bool) -> None:
    with ExitStack() as opened:
        lower = []
        for directory in (mask, source):
            descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            lower.append(f"/proc/self/fd/{descriptor}")  # the mount's options can be read, too
        overlay = syscalls.overlay_mount(syscalls.Overlay(tuple(lower)), user_xattr=user_xattr)
        opened.callback(os.close, overlay)
        syscalls.attach(overlay, target)
