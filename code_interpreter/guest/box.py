"""The inside of a box: its file system, and the user namespace that user code runs in."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from code_interpreter.guest import disk, rlimits, syscalls
from code_interpreter.protocol.boxes import (
    DATA,
    SUPERVISOR_ID,
    USER_ID,
    BoxRequest,
    Layer,
    ViewConfig,
)

NEW_ROOT = "/mnt"
STATE_DIRECTORY = "/run/code-interpreter"
CONTROL_GROUPS = f"{STATE_DIRECTORY}/cgroup"
MOST_TERMINALS = 256
MOST_SHARED = {"max_inotify_instances": 256, "max_inotify_watches": 131_072}
"""Of one box: the machine has one supply of them for all (user_namespaces(7))."""
NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_HIDDEN_FILES = (
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
)
_HIDDEN_FILES_WRITE = ("/proc/sysrq-trigger",)
# What names other boxes' disks is hidden, too.
_HIDDEN_DIRECTORIES = (
    "/sys/block",
    "/sys/class/block",
    "/sys/dev/block",
    "/sys/devices/virtual/block",
    "/sys/devices/virtual/powercap",
    "/proc/acpi",
    "/proc/asound",
    "/proc/pressure",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/kernel",
    "/sys/fs",
)
_READ_ONLY = ("/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", *_HIDDEN_FILES_WRITE)


def make_layers(config: ViewConfig, request: BoxRequest, user_namespace: int) -> list[int]:
    """Detached overlay mounts for the box, one a layer. Runs in the fork server."""
    files = f"{DATA}/sandboxes/{request.name}"
    if request.disk_image is None:
        return _make_layers_in(files, config, request, user_namespace)
    os.makedirs(files)
    disk.copy_sparse(request.disk_image, f"{files}/disk.img")
    mounted = f"{files}/disk"
    disk.mount_image(f"{files}/disk.img", mounted)
    try:
        return _make_layers_in(mounted, config, request, user_namespace)
    finally:
        syscalls.unmount(mounted)  # the overlays hold on to it


def _make_layers_in(
    files: str, config: ViewConfig, request: BoxRequest, user_namespace: int
) -> list[int]:
    for layer in config.layers:
        for part in ("upper", "work"):
            os.makedirs(f"{files}/{layer.name}/{part}", 0o755, exist_ok=True)
    if config.id_mapped:
        return _make_id_mapped_layers(config, request, files, user_namespace)
    return [
        syscalls.overlay_mount(_overlay(layer, files), user_xattr=True) for layer in config.layers
    ]


def _overlay(layer: Layer, files: str) -> syscalls.Overlay:
    return syscalls.Overlay(
        (layer.at,), f"{files}/{layer.name}/upper", f"{files}/{layer.name}/work"
    )


def _make_id_mapped_layers(
    config: ViewConfig, request: BoxRequest, files: str, user_namespace: int
) -> list[int]:
    places = f"{DATA}/run/{request.name}"
    with contextlib.ExitStack() as mapped:

        def mount(path: str, name: str) -> int:
            return mapped.enter_context(_id_mapped(path, f"{places}/{name}", user_namespace))

        upper = mount(files, "upper")
        lowers = [
            mount(layer.at, f"lower-{layer.name}")
            if layer.mapped
            else mapped.enter_context(_opened(layer.at))
            for layer in config.layers
        ]
        with syscalls.AsFilesystemUser(request.first_id, request.first_id):
            return [
                syscalls.overlay_mount(
                    syscalls.Overlay(
                        (f"/proc/self/fd/{lower}",),
                        f"/proc/self/fd/{upper}/{layer.name}/upper",
                        f"/proc/self/fd/{upper}/{layer.name}/work",
                    ),
                    user_xattr=False,
                )
                for layer, lower in zip(config.layers, lowers, strict=True)
            ]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _id_mapped(path: str, place: str, user_namespace: int) -> Iterator[int]:
    """A descriptor of ``path`` for overlays to hold on to.

    It is mounted at ``place`` meanwhile: layers that are nowhere are taken since Linux 6.15.
    """
    descriptor = syscalls.id_mapped_clone(path, user_namespace)
    try:
        os.mkdir(place)
        syscalls.attach(descriptor, place)
        try:
            yield descriptor
        finally:
            syscalls.unmount(place)
            os.rmdir(place)
    finally:
        os.close(descriptor)


def enter_root(config: ViewConfig, mounts: list[int], request: BoxRequest) -> None:
    """Make the box's own file system this process's root. Runs as PID 1 of the box."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    for layer, descriptor in zip(config.layers, mounts, strict=True):
        syscalls.attach(descriptor, NEW_ROOT + layer.at)
        os.close(descriptor)
    for shown in config.shown:
        syscalls.bind(shown.at, NEW_ROOT + shown.at, read_only=True)
    _mount_proc_and_sys()
    _mount_devices(single_id=config.single_id, shared_memory=_share(request, 2))
    _limit_system_v_memory(_share(request, 4))
    size = min(_share(request, 8) or _MOST_RUN, _MOST_RUN)
    syscalls.mount("tmpfs", f"{NEW_ROOT}/run", "tmpfs", _QUIET, f"mode=755,size={size}")
    if config.single_id:
        _make_user_root(Path(f"{NEW_ROOT}/etc/passwd"))
    # A mount of its own: a mount point cannot be renamed or removed by root of the box.
    os.mkdir(NEW_ROOT + STATE_DIRECTORY, 0o700)
    syscalls.mount("tmpfs", NEW_ROOT + STATE_DIRECTORY, "tmpfs", _QUIET, "mode=700,size=64m")
    _show_control_groups(request.control_groups)
    os.chdir(NEW_ROOT)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".")
    os.chdir("/")
    _set_hostname(request.hostname)
    _hide()
    bring_up_loopback()


_MOST_RUN = 64 * 1024 * 1024
_PAGE = 4096
_QUIET = syscalls.MS_NOSUID | syscalls.MS_NODEV


def _share(request: BoxRequest, part: int) -> int | None:
    """Memory that belongs to no process ends with none: all of it together stays below the
    limit, so that there always is a process of the user's to end when memory runs out."""
    return None if request.memory_bytes is None else request.memory_bytes // part


def _limit_system_v_memory(size: int | None) -> None:
    if size is not None:
        with contextlib.suppress(OSError):
            Path(f"{NEW_ROOT}/proc/sys/kernel/shmall").write_text(str(size // _PAGE))


def _make_user_root(accounts: Path) -> None:
    """With one uid there is one account; it keeps both names and both homes."""
    accounts.write_text(accounts.read_text().replace(f":x:{USER_ID}:{USER_ID}:", ":x:0:0:"))


def _show_control_groups(directories: dict[str, str]) -> None:
    """Where the supervisors see what the box uses and whether it ran out of memory."""
    for controller, directory in directories.items():
        target = f"{NEW_ROOT}{CONTROL_GROUPS}/{controller}"
        os.makedirs(target)
        syscalls.bind(directory, target, read_only=True)


def _mount_proc_and_sys() -> None:
    quiet = _QUIET | syscalls.MS_NOEXEC
    syscalls.mount("proc", f"{NEW_ROOT}/proc", "proc", quiet)
    syscalls.mount("sysfs", f"{NEW_ROOT}/sys", "sysfs", quiet | syscalls.MS_RDONLY)
    for name, most in MOST_SHARED.items():
        with contextlib.suppress(OSError):
            Path(f"{NEW_ROOT}/proc/sys/user/{name}").write_text(str(most))
    # User code may listen on any port and ping, though it holds no right over the network.
    for name, value in (
        ("ip_unprivileged_port_start", "0"),
        ("ping_group_range", f"0 {SUPERVISOR_ID - 1}"),
    ):
        with contextlib.suppress(OSError):
            Path(f"{NEW_ROOT}/proc/sys/net/ipv4/{name}").write_text(value)


def _mount_devices(*, single_id: bool, shared_memory: int | None) -> None:
    devices = f"{NEW_ROOT}/dev"
    syscalls.mount("tmpfs", devices, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=64k")
    for name in _DEVICES:
        Path(devices, name).touch()
        syscalls.bind(f"/dev/{name}", f"{devices}/{name}")
    for name in ("pts", "shm", "mqueue"):
        Path(devices, name).mkdir()
    terminal_group = "" if single_id else ",gid=5"
    syscalls.mount(
        "devpts",
        f"{devices}/pts",
        "devpts",
        syscalls.MS_NOSUID | syscalls.MS_NOEXEC,
        f"newinstance,ptmxmode=0666,mode=620,max={MOST_TERMINALS}{terminal_group}",
    )
    size = "" if shared_memory is None else f",size={shared_memory}"
    syscalls.mount("shm", f"{devices}/shm", "tmpfs", _QUIET, f"mode=1777{size}")
    with contextlib.suppress(OSError):
        syscalls.mount("mqueue", f"{devices}/mqueue", "mqueue", _QUIET)
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}
    links |= {"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    for name, target in links.items():
        Path(devices, name).symlink_to(target)


def _set_hostname(name: str) -> None:
    """Some containers' filters refuse the call; then the kernel's setting may be written to."""
    try:
        syscalls.set_hostname(name)
    except PermissionError:
        with contextlib.suppress(OSError):
            Path("/proc/sys/kernel/hostname").write_text(name)


def _hide() -> None:
    for path in _HIDDEN_FILES:
        if os.path.exists(path):
            syscalls.bind("/dev/null", path)
    for path in _HIDDEN_DIRECTORIES:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", _QUIET | syscalls.MS_RDONLY, "size=0,mode=755")
    for path in _READ_ONLY:
        if os.path.exists(path):
            syscalls.bind(path, path, read_only=True, recursive=True)


def bring_up_loopback() -> None:
    """Set IFF_UP on ``lo`` (netdevice(7))."""
    import fcntl
    import struct

    get_flags, set_flags, is_up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(handle, get_flags, request))[1]
        fcntl.ioctl(handle, set_flags, struct.pack("16sh22x", b"lo", flags | is_up))


def make_user_namespace(*, single_id: bool, processes: int | None = None) -> int:
    """A user namespace below this one for user code; the descriptor keeps it alive.

    ``processes`` limits how many processes and threads it has at a time. Makes this process
    dumpable: only then may it write the maps of the namespace.
    """
    syscalls.set_dumpable(True)
    with (
        rlimits.processes_of_new_namespaces(processes),
        syscalls.sleeper_in_namespaces(syscalls.CLONE_NEWUSER) as pid,
    ):
        write_id_maps(pid, 0, 1 if single_id else SUPERVISOR_ID)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def write_id_maps(pid: int, first: int, count: int) -> None:
    """Map ids 0 to ``count`` - 1 of the process's new user namespace to those from ``first``."""
    process = Path(f"/proc/{pid}")
    if count == 1:
        (process / "setgroups").write_text("deny")
    # In two pieces, because the namespace above may have its ids in these two pieces.
    pieces = f"0 {first} 1\n" + (f"1 {first + 1} {count - 1}\n" if count > 1 else "")
    for name in ("uid_map", "gid_map"):
        (process / name).write_text(pieces)
