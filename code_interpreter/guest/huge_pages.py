"""Fewer, larger pages for a process that is forked again and again.

A fork copies one entry a page; a huge page is one entry instead of 512, until somebody writes
to it, and then only the writer goes back to small ones. Nothing depends on it: a kernel
without ``MADV_COLLAPSE`` (Linux 6.1), or one short of memory, leaves the pages as they are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from code_interpreter.guest import syscalls

HUGE = 2 << 20
"""Bytes of a huge page where a page has 4 KiB; elsewhere nothing is done."""
_PAGE = 4096
_PRESENT_PERCENT = 75
"""A block with less in it would cost more memory than it is worth."""


def collapse() -> int:
    """Put this process's private memory into huge pages; returns how many they are."""
    if os.sysconf("SC_PAGESIZE") != _PAGE:
        return 0
    made = 0
    with contextlib.suppress(OSError), open("/proc/self/pagemap", "rb", buffering=0) as pages:
        for start in _blocks():
            if _is_full(os.pread(pages.fileno(), HUGE // _PAGE * 8, start // _PAGE * 8)):
                made += syscalls.collapse(start, HUGE)
    return made


def _blocks() -> Iterator[int]:
    """Addresses of the aligned blocks of writable memory that belongs to no file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode = line.split()[:5]
        if rights == "rw-p" and inode == "0":
            first, end = (int(address, 16) for address in span.split("-"))
            yield from range(-(-first // HUGE) * HUGE, end - HUGE + 1, HUGE)


def _is_full(entries: bytes) -> bool:
    """Whether enough of the pages are there: bit 63 of each entry, see proc_pid_pagemap(5)."""
    present = sum(entry >> 7 for entry in entries[7::8])
    return present * 100 >= len(entries) // 8 * _PRESENT_PERCENT
