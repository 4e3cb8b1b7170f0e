"""The read-only view of a template that its fork server lives in.

``python -m code_interpreter.guest.view '<ViewConfig JSON>'`` runs with the host's Python,
builds a mount namespace in which the template's files stand at their final paths, and
becomes (exec) the fork server under the template's own Python. As an ordinary user it
enters a user namespace first: with a range of ids if ``newuidmap`` grants one, else with
one id alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from code_interpreter.guest import syscalls
from code_interpreter.guest.shown import show
from code_interpreter.protocol.boxes import DATA, PACKAGE, SUPERVISOR_ID, USER_ID, ViewConfig

LDCONFIG = "/usr/sbin/ldconfig"


def main() -> None:
    config = ViewConfig.load(sys.argv[1])
    close_all_but(config.socket_fd)
    if not config.id_mapped:
        enter_user_namespace(config)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    build(config)
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": PACKAGE,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "MPLCONFIGDIR": "/tmp/matplotlib",
    }
    os.set_inheritable(config.socket_fd, True)
    arguments = [config.python, "-m", "code_interpreter.guest.forkserver", str(_in_memory(config))]
    os.execve(config.python, arguments, environment)


def close_all_but(kept: int) -> None:
    """What the host was started with is nothing for its sandboxes."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _in_memory(config: ViewConfig) -> int:
    """A descriptor to read the config from: every box could read it on a command line."""
    descriptor = os.memfd_create("config", 0)
    os.write(descriptor, config.dump().encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def enter_user_namespace(config: ViewConfig) -> None:
    """Become root of a new user namespace, with the ids that the config names."""
    uid, gid = os.getuid(), os.getgid()
    if config.newuidmap is None or config.newgidmap is None:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1\n")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1\n")
        return
    unshared_read, unshared_write = os.pipe()
    target = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(unshared_write)
        os.read(unshared_read, 1)
        failed = _write_maps(target, uid, gid, config.newuidmap, config.newgidmap)
        os._exit(failed)
    os.close(unshared_read)
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    os.close(unshared_write)
    _, status = os.waitpid(helper, 0)
    if status:
        raise OSError("newuidmap or newgidmap failed; check /etc/subuid and /etc/subgid")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write_maps(
    target: int, uid: int, gid: int, uids: tuple[int, int], gids: tuple[int, int]
) -> int:
    for program, own, (first, count) in (("newuidmap", uid, uids), ("newgidmap", gid, gids)):
        ids = min(count, SUPERVISOR_ID)
        command = [program, str(target), "0", str(own), "1", "1", str(first), str(ids)]
        if subprocess.run(command, check=False).returncode:
            return 1
    return 0


def build(config: ViewConfig) -> None:
    """Make the template's files this process's root."""
    top = config.layers[0].lower[0]
    syscalls.bind(top, top)
    for layer in config.layers[1:]:
        syscalls.bind(layer.lower[0], top + layer.at, read_only=True)
    show(config.shown, top, top + "/mnt", user_xattr=not config.id_mapped)
    syscalls.bind(config.data_directory, top + DATA)
    for name in ("/proc", "/sys", "/dev"):
        syscalls.bind(name, top + name, recursive=True)
    syscalls.mount("tmpfs", top + "/tmp", "tmpfs", 0, "mode=1777")
    os.chdir(top)
    syscalls.pivot_root(".", "mnt")
    os.chdir("/")
    syscalls.unmount("/mnt")
    if not config.id_mapped and not config.single_id:
        for path in ("/home/user", *(f"/home/user/{name}" for name in os.listdir("/home/user"))):
            os.chown(path, USER_ID, USER_ID)
    if any(shown.at == "/opt/python" for shown in config.shown) and os.path.exists(LDCONFIG):
        # A Python with a shared library must find its own, not one of /usr.
        with _one_at_a_time("/etc/ld.so.conf.d"):
            subprocess.run([LDCONFIG], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _one_at_a_time(directory: str) -> Iterator[None]:
    """Hosts that share a template would write one temporary file at the same time."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
