"""Collapsing memory into huge pages changes where it lies and nothing else."""

from __future__ import annotations

import subprocess
import sys

from tests.linux import needs_linux

SCRIPT = """
import mmap, os, re
from pathlib import Path
from code_interpreter.guest import huge_pages

def huge_bytes():
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"AnonHugePages: +(\\d+) kB", text)[1]) << 10

full = mmap.mmap(-1, 4 * huge_pages.HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
full.write(bytes(range(256)) * (len(full) // 256))
empty = mmap.mmap(-1, 64 * huge_pages.HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
empty[0] = 1
before = huge_bytes()
made = huge_pages.collapse()
assert full[:] == bytes(range(256)) * (len(full) // 256)
print(made, huge_bytes() - before)
"""


@needs_linux(6, 1)
def test_memory_in_use_is_collapsed_and_stays_what_it_was() -> None:
    """Blocks with hardly anything in them are left alone: 64 of them would show here."""
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    made, more = map(int, output.split())
    assert 3 <= made < 40
    assert more <= made * (2 << 20)
