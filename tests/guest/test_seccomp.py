"""The filter, installed for real in a child process."""

from __future__ import annotations

import ctypes
import errno
import json
import platform
import subprocess
import sys
from collections.abc import Sequence

import pytest

from code_interpreter.guest import seccomp

_PROBE = """
import ctypes, errno, json, os, sys
from code_interpreter.guest import seccomp, syscalls
syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
for supervisor in json.loads(sys.argv[2]):
    seccomp.install(supervisor=supervisor)
libc = ctypes.CDLL(None, use_errno=True)
answers = {}
for name, number, *arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    result = libc.syscall(number, *(ctypes.c_long(value) for value in arguments))
    answers[name] = ctypes.get_errno() if result < 0 else 0
print(json.dumps(answers))
"""
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(platform.machine())

pytestmark = pytest.mark.skipif(_COLUMN is None, reason="no filter for this architecture")


def _probe(
    calls: Sequence[tuple[object, ...]], supervisor: Sequence[bool] = (True, False)
) -> dict[str, int]:
    """errno of each call, with the filters installed one after the other; 0: it was let through."""
    command = [sys.executable, "-c", _PROBE, json.dumps(calls), json.dumps(supervisor)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    answers: dict[str, int] = json.loads(result.stdout)
    return answers


@pytest.mark.security
@pytest.mark.parametrize("supervisor", [True, False], ids=["supervisor", "user code"])
@pytest.mark.parametrize(
    ("table", "code"),
    [(seccomp.REFUSED, errno.EPERM), (seccomp.MISSING, errno.ENOSYS)],
    ids=["refused", "missing"],
)
def test_every_listed_call_is_answered_with_its_error(
    table: dict[str, tuple[int | None, int | None]], code: int, supervisor: bool
) -> None:
    assert _COLUMN is not None
    # An invalid first argument: were a call let through, the kernel would say EBADF, EFAULT, …
    calls = [
        (name, columns[_COLUMN], -1, 0, 0, 0, 0)
        for name, columns in table.items()
        if columns[_COLUMN] is not None
    ]
    assert _probe(calls, [supervisor]) == {str(call[0]): code for call in calls}


@pytest.mark.security
@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_arguments_are_looked_at() -> None:
    socket, socketpair, ioctl, clone, sigchld = 41, 53, 16, 56, 17
    stream, raw, packet = 1, 3, 10
    answers = _probe(
        [
            ("packet", socket, 17, raw, 0),
            ("packet by its type", socket, 2, packet, 0),
            ("packet by its type, to be closed", socket, 2, packet | 0o2000000, 0),
            ("alg", socket, 38, 5, 0),
            ("vsock", socket, 40, stream, 0),
            ("bluetooth", socket, 31, stream, 0),
            ("tipc pair", socketpair, 30, stream, 0, 0),
            ("express data path", socket, 44, raw, 0),
            ("inet", socket, 2, stream, 0),
            ("inet6", socket, 10, stream, 0),
            ("unix", socket, 1, stream, 0),
            ("routes", socket, 16, raw, 0),
            ("sockets", socket, 16, raw, 4),
            ("netfilter", socket, 16, raw, 12),
            ("transformation", socket, 16, raw, 6),
            ("tiocsti", ioctl, 0, 0x5412, 0),
            ("new user namespace", clone, 0x10000000 | sigchld, 0, 0, 0, 0),
            ("new mount namespace", clone, 0x00020000 | sigchld, 0, 0, 0, 0),
        ]
    )
    assert answers == {
        "packet": errno.EPERM,
        "packet by its type": errno.EPERM,
        "packet by its type, to be closed": errno.EPERM,
        "alg": errno.EPERM,
        "vsock": errno.EPERM,
        "bluetooth": errno.EPERM,
        "tipc pair": errno.EPERM,
        "express data path": errno.EPERM,
        "inet": 0,
        "inet6": 0,
        "unix": 0,
        "routes": 0,
        "sockets": 0,
        "netfilter": errno.EPROTONOSUPPORT,
        "transformation": errno.EPROTONOSUPPORT,
        "tiocsti": errno.EPERM,
        "new user namespace": errno.EPERM,
        "new mount namespace": errno.EPERM,
    }


@pytest.mark.security
@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_supervisors_enter_user_namespaces_and_user_code_none() -> None:
    setns, user, mount = 308, 0x10000000, 0x00020000
    calls = [("user", setns, -1, user), ("mount", setns, -1, mount), ("any", setns, -1, 0)]
    refused = dict.fromkeys(("user", "mount", "any"), errno.EPERM)
    assert _probe(calls, [True]) == {**refused, "user": errno.EBADF}
    assert _probe(calls, [True, False]) == refused


def test_filters_fit_the_kernel() -> None:
    for machine in ("x86_64", "aarch64"):
        assert len(seccomp.compile_silent(machine)) // 8 < 4096
        for supervisor in (True, False):
            assert len(seccomp.compile_logged(machine, supervisor=supervisor)) // 8 < 4096
    assert ctypes.sizeof(ctypes.c_void_p) == 8
