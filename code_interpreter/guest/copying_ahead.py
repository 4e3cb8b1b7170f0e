"""Copying memory before it is written to, in a fork that waits for its work.

What a fork writes to is copied then, a page at a time, and somebody waits for it. All forks
of one kind write to much the same pages. So the fork server tries one out and notes which
those are; later forks copy them while nobody waits. Nothing depends on it: where the kernel
lacks ``MADV_POPULATE_WRITE`` (Linux 5.14), memory is copied when it is written to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from code_interpreter.guest import syscalls

Kind = Literal["gateway", "kernel"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Pages = Sequence[tuple[int, int]]
"""Address of a first byte, and how many bytes there are; in ascending order."""
_ENTRY = 8
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56
"""Of an entry of proc_pid_pagemap(5): the page is there, and nobody else has it mapped."""
_noted: dict[Kind, Pages] = {}


def is_possible() -> bool:
    """Whether this kernel copies what nobody writes to yet."""
    return syscalls.make_writable(0, 0)


def note(kind: Kind, pages: Pages) -> None:
    """Forks of this process that are of this kind write to these pages."""
    here = {address for address, entry in _entries(os.getpid()) if entry & _PRESENT}
    size = os.sysconf("SC_PAGESIZE")
    wanted = (
        address
        for start, length in pages
        for address in range(start, start + length, size)
        if address in here
    )
    _noted[kind] = _joined(wanted, size)


def copy(kind: Kind) -> int:
    """Copy what forks of this kind write to; returns how many bytes they are.

    For a fork of the process that has noted it.
    """
    return sum(
        length for start, length in _noted.get(kind, ()) if syscalls.make_writable(start, length)
    )


def own_pages(pid: int) -> Pages:
    """What only this process has in memory: a fork, what it has written to.

    As long as the process that it came from writes to nothing itself.
    """
    size = os.sysconf("SC_PAGESIZE")
    mine = _PRESENT | _EXCLUSIVE
    return _joined((address for address, entry in _entries(pid) if entry & mine == mine), size)


def _entries(pid: int) -> Iterator[tuple[int, int]]:
    """Each page of writable memory that is not shared, with its entry in the page map."""
    size = os.sysconf("SC_PAGESIZE")
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as page_map:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split(maxsplit=2)[:2]
            if rights != "rw-p":
                continue
            first, end = (int(address, 16) for address in span.split("-"))
            raw = os.pread(
                page_map.fileno(), (end - first) // size * _ENTRY, first // size * _ENTRY
            )
            for number, entry in enumerate(memoryview(raw).cast("Q")):
                if entry:
                    yield first + number * size, entry


def _joined(addresses: Iterable[int], size: int) -> Pages:
    """Neighbours as one; for addresses in ascending order."""
    pages: list[tuple[int, int]] = []
    for address in addresses:
        start, length = pages[-1] if pages else (0, 0)
        if pages and start + length == address:
            pages[-1] = start, length + size
        else:
            pages.append((address, size))
    return pages
