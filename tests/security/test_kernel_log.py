"""What a sandbox was refused is in the log of the machine's kernel, and does not fill it.

The kernel itself keeps that log short, ten lines in five seconds by default
(``kernel.printk_ratelimit``), so these tests ask again until they were heard.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from code_interpreter import Sandbox
from tests.envd import supervisors
from tests.service import Service

ACTIONS = Path("/proc/sys/kernel/seccomp/actions_logged")


def _reason() -> str | None:
    if platform.machine() != "x86_64":
        return "system calls by number"
    if os.getuid() != 0:
        return "only root reads the kernel's log"
    if not ACTIONS.exists() or "errno" not in ACTIONS.read_text().split():
        return f"{ACTIONS} has no errno: this machine wants no such entries"
    if Path("/var/log/audit/audit.log").exists():
        return "auditd takes the entries (ausearch -m SECCOMP)"
    return None


pytestmark = [
    pytest.mark.security,
    pytest.mark.alone,
    pytest.mark.skipif(_reason() is not None, reason=str(_reason())),
]
HEARD_SECONDS = 40.0
REFUSED = {
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "unshare": (272, 0x10000000),
    "setns": (308, -1, 0x10000000),
    "clone": (56, 0x10000011, 0, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
}
"""Name: number and arguments."""
USUAL = """
import io, pandas, socket, subprocess, threading
subprocess.run("ls -l /proc > /dev/null; sudo -n true", shell=True)
threads = [threading.Thread(target=print) for _ in range(50)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for family in (socket.AF_INET, socket.AF_INET6, 17, 40):
    try: socket.socket(family).close()
    except OSError: pass
"""


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    with Sandbox.create(timeout=300, **service.options) as sandbox:
        sandbox.run_code("import ctypes; call = ctypes.CDLL(None, use_errno=True).syscall")
        yield sandbox


class KernelLog:
    """What the kernel says from now on; /dev/kmsg as in its documentation."""

    def __init__(self) -> None:
        self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._file, 0, os.SEEK_END)

    def entries(self) -> list[str]:
        """Those of refused system calls that nobody has read yet."""
        found: list[str] = []
        while True:
            try:
                line = os.read(self._file, 8192).decode(errors="replace")
            except BlockingIOError:
                return found
            except BrokenPipeError:  # some were overwritten
                continue
            if "type=1326" in line:
                found.append(line)

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def log() -> Iterator[KernelLog]:
    made = KernelLog()
    yield made
    made.close()


def test_each_refused_call_is_in_the_log_and_what_programs_do_every_day_is_not(
    box: Sandbox, log: KernelLog
) -> None:
    assert box.run_code(USUAL, timeout=50).error is None
    assert box.commands.run("echo there").stdout == "there\n"
    unheard = {name: call[0] for name, call in REFUSED.items()}
    deadline = time.monotonic() + HEARD_SECONDS
    while unheard:
        assert time.monotonic() < deadline, f"not in the kernel's log: {unheard}"
        for name in unheard:
            number, *arguments = REFUSED[name]
            given = ", ".join(f"ctypes.c_long({each})" for each in arguments)
            answer = box.run_code(f"call({number}, {given}), ctypes.get_errno()").text
            assert answer == f"(-1, {errno.EPERM})"
        time.sleep(0.5)
        heard = {_number("syscall", line) for line in log.entries() if _is_of(box, line)}
        assert heard <= {call[0] for call in REFUSED.values()}
        unheard = {name: number for name, number in unheard.items() if number not in heard}


def test_a_flood_of_refused_calls_does_not_fill_the_log(box: Sandbox, log: KernelLog) -> None:
    began = time.monotonic()
    cell = box.run_code("for _ in range(50_000): call(165, 0, 0, 0, 0, 0)", timeout=50)
    assert cell.error is None
    windows = 1 + (time.monotonic() - began) / 5
    assert len(log.entries()) <= 20 * windows


def _is_of(box: Sandbox, line: str) -> bool:
    """By the uids that the machine knows the sandbox's processes by."""
    init = supervisors.processes(box.sandbox_id)[0]
    first, count = map(int, Path(f"/proc/{init.pid}/uid_map").read_text().split()[1:3])
    return first <= _number("uid", line) < first + count


def _number(name: str, line: str) -> int:
    found = re.search(rf" {name}=(\d+)", line)
    assert found is not None, line
    return int(found[1])
