"""Starting user code (commands, terminals, kernels) from a supervisor process of the sandbox.

Supervisors (init, envd, gateway) and user code live in two user namespaces, one inside
the other, with the same uids. So even root among the user code may not signal, trace or
read a supervisor: to the kernel it has no rights outside its own namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from code_interpreter.guest import rights, syscalls
from code_interpreter.guest.rlimits import come_after_supervisors
from code_interpreter.guest.users import User

USER_CODE_OOM_SCORE = "500"


class Launcher:
    """Starts processes as a user of the box.

    ``user_namespace_fd`` is the namespace for user code, or None where there is no
    isolation; then ``user`` is only used for its name and home.
    """

    def __init__(self, user_namespace_fd: int | None) -> None:
        self._user_namespace_fd = user_namespace_fd
        if user_namespace_fd is not None:
            os.set_inheritable(user_namespace_fd, False)

    def start(
        self,
        argv: Sequence[str],
        *,
        user: User,
        env: Mapping[str, str],
        cwd: str,
        stdin: int,
        stdout: int,
        stderr: int,
        terminal: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> int:
        """Start ``argv`` as the leader of a new session and return its pid.

        ``stdin``, ``stdout`` and ``stderr`` are descriptors of the caller, which goes on
        owning them. With ``terminal``, ``stdin`` becomes the controlling terminal. ``env``
        is the whole environment. ``argv[0]`` is looked up in its PATH. The child belongs to
        the caller: wait for it with ``os.pidfd_open`` and ``os.waitpid``.

        Raises OSError with errno and file name: of ``cwd`` if that is not a directory the
        user may enter, otherwise of the program.
        """
        report_read, report_write = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
            if pid == 0:
                self._become(
                    argv, user, env, cwd, (stdin, stdout, stderr), terminal, pass_fds, report_write
                )
            os.close(report_write)
            report_write = -1
            report = os.read(report_read, 8)
        finally:
            os.close(report_read)
            if report_write >= 0:
                os.close(report_write)
        if report:
            os.waitpid(pid, 0)
            stage, code = struct.unpack("ii", report)
            name = (cwd, argv[0], f"user {user.name}")[stage]
            raise OSError(code, os.strerror(code), name)
        return pid

    def _become(
        self,
        argv: Sequence[str],
        user: User,
        env: Mapping[str, str],
        cwd: str,
        streams: tuple[int, int, int],
        terminal: bool,
        pass_fds: Sequence[int],
        report: int,
    ) -> NoReturn:
        stage = 2
        try:
            os.setsid()
            keep = {report, *pass_fds}
            if self._user_namespace_fd is not None:
                keep.add(self._user_namespace_fd)
            arrange_descriptors(streams, keep)
            if terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            reset_signals()
            be_first_to_go()
            if self._user_namespace_fd is not None:
                enter_user_namespace(self._user_namespace_fd, user)
            stage = 0
            os.chdir(cwd)
            stage = 1
            os.execvpe(argv[0], list(argv), dict(env))
        except OSError as error:
            os.write(report, struct.pack("ii", stage, error.errno or 0))
        except BaseException:  # the child must never return into the caller's program
            os.write(report, struct.pack("ii", stage, 0))
        os._exit(127)


def be_first_to_go() -> None:
    """When memory runs out, user code ends before the supervisors do; see proc(5)."""
    come_after_supervisors()
    hidden = not syscalls.is_dumpable()
    if hidden:  # then its files in /proc belong to somebody else
        syscalls.set_dumpable(True)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(USER_CODE_OOM_SCORE)
    if hidden:
        syscalls.set_dumpable(False)


def reset_signals() -> None:
    """Default handlers and an empty mask, whatever the supervisor had."""
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def arrange_descriptors(streams: tuple[int, int, int], keep: set[int]) -> None:
    """Put ``streams`` on 0, 1, 2 and close everything else but ``keep``."""
    copies = [fcntl.fcntl(stream, fcntl.F_DUPFD, 3) for stream in streams]
    for target, copy in enumerate(copies):
        os.dup2(copy, target, inheritable=True)
    lowest = 3
    for kept in sorted(keep):
        os.closerange(lowest, kept)
        lowest = kept + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))


def enter_user_namespace(descriptor: int, user: User) -> None:
    """Take on ``user`` inside the namespace for user code; for good."""
    syscalls.setns(descriptor, syscalls.CLONE_NEWUSER)
    rights.lock_up_user_code()
    if not groups_are_denied():
        os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    if user.uid != 0:  # the kernel does it only for who was root before
        syscalls.drop_capabilities()


def groups_are_denied() -> bool:
    """In a user namespace with one id the kernel allows no supplementary groups."""
    return Path("/proc/self/setgroups").read_text().startswith("deny")
