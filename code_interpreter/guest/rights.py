"""What the processes of a sandbox may do, by capability (capabilities(7)) and system call.

Three kinds of process share a sandbox. Init makes it, with every capability over the
sandbox's outer user namespace, and gives up most of them before anything from outside
speaks to it. Supervisors keep what working on other users' files takes. User code lives in
a user namespace of its own, which the supervisors' uid has made: to its owner the kernel
grants every right over a namespace, so entering it, and signalling what is in it, takes no
capability at all.
"""

from __future__ import annotations

from code_interpreter.guest import seccomp, syscalls

CHOWN, DAC_OVERRIDE, FOWNER, FSETID = 0, 1, 3, 4
KILL, SETGID, SETUID, SETPCAP = 5, 6, 7, 8
NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP = 10, 18, 29, 31

USER_CODE = frozenset(
    {
        CHOWN,
        DAC_OVERRIDE,
        FOWNER,
        FSETID,
        KILL,
        SETGID,
        SETUID,
        SETPCAP,
        NET_BIND_SERVICE,
        SYS_CHROOT,
        AUDIT_WRITE,
        SETFCAP,
    }
)
"""Of root among the user code, over its own namespace: what packages and services need to
install and run. No mounting, raw sockets, devices, modules."""

SUPERVISORS = {
    "envd": frozenset({CHOWN, DAC_OVERRIDE, FOWNER, FSETID}),
    "gateway": frozenset({CHOWN, DAC_OVERRIDE}),
}
"""Over the outer namespace: files that are made for user code become its own."""

INIT = frozenset({SETGID, SETUID, SETPCAP}).union(*SUPERVISORS.values())
"""For what it starts: a supervisor that is executed takes the ids of its files again, and
all of them drop what they do not keep."""


def lock_up_init() -> None:
    """Of init, and all below it: what making the sandbox took is not needed any more."""
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)  # of a control group one sees what is below
    seccomp.install(supervisor=True)
    syscalls.limit_capabilities(INIT, inheritable=True)


def lock_up_supervisor(name: str) -> None:
    """Of envd or the gateway, once it is set up."""
    syscalls.limit_capabilities(SUPERVISORS[name], inheritable=False)


def lock_up_user_code() -> None:
    """Of a process that has just entered the namespace for user code, and all below it."""
    seccomp.install()
    syscalls.limit_capabilities(USER_CODE, inheritable=False)
