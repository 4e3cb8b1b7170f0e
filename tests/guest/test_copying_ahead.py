"""Memory that was copied ahead stays what it was, and is not copied again."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NoReturn

import pytest

from code_interpreter.gateway import warmth
from code_interpreter.guest import copying_ahead
from tests.linux import needs_linux

SCRIPT = """
import json, mmap, os, resource, sys
from code_interpreter.guest import copying_ahead

PAGE = os.sysconf("SC_PAGESIZE")
WRITTEN = [*range(3, 43), 50, *range(60, 100, 2)]
memory = mmap.mmap(-1, 128 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(b"x" * len(memory))

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def write():
    before = faults()
    for number in WRITTEN:
        memory[number * PAGE] = memory[number * PAGE]
    return faults() - before

def in_a_fork(action):
    read, answer = os.pipe()
    if os.fork() == 0:
        os.write(answer, json.dumps(action()).encode())
        os._exit(0)
    os.close(answer)
    with open(read) as said:
        result = json.load(said)
    os.wait()
    return result

def try_out():
    write()
    return copying_ahead.own_pages(os.getpid())

def with_copies():
    copied = copying_ahead.copy("kernel")
    return copied >= len(WRITTEN) * PAGE, write(), memory[:] == b"x" * len(memory)

print(json.dumps({
    "nothing noted": in_a_fork(lambda: [copying_ahead.copy("kernel"), write()]),
    "noted": copying_ahead.note("kernel", in_a_fork(try_out)),
    "copied": in_a_fork(with_copies),
    "of other kinds": in_a_fork(lambda: copying_ahead.copy("gateway")),
}))
"""


@needs_linux(5, 14)
def test_pages_that_a_fork_writes_to_are_copied_before() -> None:
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    seen = json.loads(output)
    pages = 61
    assert seen["nothing noted"][0] == 0
    assert seen["nothing noted"][1] >= pages
    copied_all, faults, unchanged = seen["copied"]
    assert copied_all
    assert unchanged
    assert faults < pages / 2, "no more than the interpreter itself has"
    assert seen["of other kinds"] == 0


def test_a_fork_server_that_may_not_look_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> NoReturn:
        raise PermissionError(f"/proc/{pid}/pagemap")

    monkeypatch.setattr(copying_ahead, "_entries", refuse)
    monkeypatch.setattr(warmth, "_try_out", dict)
    monkeypatch.setitem(sys.modules, warmth._KERNELS, sys)
    warmth.note_what_forks_write()
    assert copying_ahead.copy("gateway") == 0
