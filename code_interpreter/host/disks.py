"""Empty disk images, one a size, that boxes get copies of."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

from code_interpreter.host.containers import container, whole_way
from code_interpreter.host.ids import is_machine_root
from code_interpreter.host.runtimes.base import PolicyNotEnforceable, RuntimeFailure
from code_interpreter.protocol.boxes import DATA

MAKE_DEADLINE = 60.0
"""Seconds for mkfs; it writes a few megabytes."""
SMALLEST = 16 * 1024 * 1024
MOST_IMAGES = 32
"""Sizes that are kept at hand: callers may ask for any."""
_SMALL = 1024 * 1024 * 1024


class DiskImages:
    """Images under one data directory, made when first asked for."""

    def __init__(self, data_directory: Path) -> None:
        self._directory = data_directory / "disks"
        self._lock = threading.Lock()

    def problem(self) -> str | None:
        """Why this host cannot limit disk space, or None."""
        if not is_machine_root():
            return "the host does not run as root of the machine"
        if shutil.which("mkfs.ext4", path=_PATH) is None:
            return "mkfs.ext4 is missing (apt-get install e2fsprogs)"
        control = Path("/dev/loop-control")
        if not control.exists():
            remedy = whole_way() if container() else "modprobe loop"
            return f"there are no loop devices ({remedy})"
        try:
            os.close(os.open(control, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"{control} may not be used: {error.strerror} ({whole_way()})"
        return None

    def image(self, size: int | None) -> str | None:
        """Path of an empty image of ``size`` bytes, as the fork server sees it.

        For use in threads, by several at once. Raises `PolicyNotEnforceable` where disk
        space cannot be limited.
        """
        if size is None:
            return None
        problem = self.problem()
        if problem is not None:
            raise PolicyNotEnforceable(f"a disk limit was asked for, but {problem}")
        if size < SMALLEST:
            raise PolicyNotEnforceable(f"a disk has at least {SMALLEST} bytes, not {size}")
        name = f"{size}.ext4"
        with self._lock:
            try:
                os.utime(self._directory / name)
            except FileNotFoundError:
                self._make(name, size)
                self._forget_old()
        return f"{DATA}/disks/{name}"

    def _make(self, name: str, size: int) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._directory / f"{name}.{os.getpid()}"
        with unfinished.open("wb") as image:
            image.truncate(_gross(size))
        # No journal: a box's disk does not outlive a crash of the machine. Nothing is set
        # aside for root: root of the box is as much a guest as anybody.
        # Blocks are those of its loop device; a small disk has more files for its size.
        options = [
            "-O",
            "^has_journal,^resize_inode",
            "-m",
            "0",
            "-E",
            "lazy_itable_init=1,nodiscard",
        ]
        options += ["-b", "4096", "-i", str(_bytes_per_file(size))]
        command = ["mkfs.ext4", "-q", "-F", *options, str(unfinished)]
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=MAKE_DEADLINE,
            check=False,
            env={"PATH": _PATH},
        )
        if result.returncode:
            unfinished.unlink()
            raise RuntimeFailure(f"mkfs.ext4 failed: {result.stderr.strip()}")
        unfinished.rename(self._directory / name)

    def _forget_old(self) -> None:
        """Keep the sizes that were asked for last."""
        images = sorted(self._directory.glob("*.ext4"), key=lambda image: image.stat().st_mtime)
        for image in images[:-MOST_IMAGES]:
            image.unlink(missing_ok=True)


def _bytes_per_file(size: int) -> int:
    return 4096 if size < _SMALL else 16384


def _gross(size: int) -> int:
    """Bytes of an image that ``size`` bytes can be written to.

    Its inodes take 256 bytes each, and ext4 keeps a fiftieth, at most 4096 blocks, for itself
    (``reserved_clusters`` of ext4(5)).
    """
    inodes = size // _bytes_per_file(size) * 256
    gross = size + inodes + min(size // 50, 4096 * 4096) + size // 1000
    return gross // 4096 * 4096


_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
