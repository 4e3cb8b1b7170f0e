"""What this machine can give to sandboxes, found by looking, each fact with its remedy.

`code-interpreter doctor` prints these. Nothing here changes the machine, except that
namespaces are tried out in a child process that ends at once.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from code_interpreter.host import cgroup_search
from code_interpreter.host.templates import resources

PROBE_DEADLINE = 10.0
_SYS_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1


class Standing(StrEnum):
    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about this machine; ``remedy`` is a command or a short instruction."""

    name: str
    standing: Standing
    detail: str
    remedy: str = ""


def examine() -> list[Fact]:
    """Every fact, in the order of importance. Takes under a second."""
    return [check() for check in _CHECKS]


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _ok(name: str, detail: str) -> Fact:
    return Fact(name, Standing.OK, detail)


def _can_unshare(*flags: str) -> bool:
    command = ["unshare", *flags, "true"]
    try:
        result = subprocess.run(command, capture_output=True, timeout=PROBE_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def _namespaces() -> Fact:
    kinds = "pid, mount, network, IPC, host name"
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    if _can_unshare(*user, "--pid", "--fork", "--mount", "--net", "--ipc", "--uts"):
        return _ok("namespaces", kinds)
    remedy = "run on Linux outside a container, or in one started with --privileged"
    return Fact("namespaces", Standing.MISSING, f"cannot make {kinds} namespaces", remedy)


def _user_namespaces() -> Fact:
    name = "user namespaces"
    if _can_unshare("--user", "--map-root-user"):
        return _ok(name, "available")
    for path, bad, remedy in (
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ):
        if _read(path) == bad:
            return Fact(name, Standing.MISSING, f"restricted by {path} = {bad}", remedy)
    return Fact(name, Standing.MISSING, "refused by the kernel", "run the host as root")


def _subordinate_ids() -> Fact:
    name = "subordinate ids"
    if os.getuid() == 0:
        return _ok(name, "not needed: the host runs as root, each sandbox gets its own id range")
    user = getpass.getuser()
    if shutil.which("newuidmap") is None:
        return Fact(
            name,
            Standing.LIMITED,
            "no newuidmap: in a sandbox, root and user are one account, and sudo does not work",
            "apt-get install uidmap",
        )
    if any(user in (_read(path) or "") for path in ("/etc/subuid", "/etc/subgid")):
        return _ok(name, f"a range for {user} in /etc/subuid")
    remedy = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    return Fact(name, Standing.LIMITED, f"no range for {user} in /etc/subuid", remedy)


def _control_groups() -> Fact:
    found = cgroup_search.find("code-interpreter-doctor")
    name = "control groups"
    try:
        if not found.controllers:
            remedy = "run as root, or: systemd-run --user -p Delegate=yes code-interpreter serve"
            return Fact(name, Standing.LIMITED, "none may be used: no limits, no pause", remedy)
        present = ", ".join(found.controllers)
        missing = {"memory", "pids", "cpu", "freezer"} - set(found.controllers)
        if missing:
            detail = f"version {found.version}: {present}; without {', '.join(sorted(missing))}"
            return Fact(name, Standing.LIMITED, detail, "run as root")
        return _ok(name, f"version {found.version}: {present}")
    finally:
        for directory in set(found.controllers.values()):
            directory.rmdir()


def _overlay_file_system() -> Fact:
    if "overlay" in (_read("/proc/filesystems") or ""):
        return _ok("overlayfs", "available")
    return Fact("overlayfs", Standing.MISSING, "not in this kernel", "modprobe overlay")


def _id_mapped_mounts() -> Fact:
    major, minor = (int(part) for part in platform.release().split(".")[:2])
    if (major, minor) >= (5, 19):
        return _ok("id-mapped overlay", f"Linux {platform.release()}")
    detail = f"Linux {platform.release()} has none"
    return Fact("id-mapped overlay", Standing.MISSING, detail, "use Linux 5.19 or newer as root")


def _seccomp() -> Fact:
    if platform.machine() not in ("x86_64", "aarch64"):
        return Fact("seccomp", Standing.MISSING, f"no filter for {platform.machine()}")
    if "Seccomp" in (_read("/proc/self/status") or ""):
        return _ok("seccomp", "filters on user code")
    return Fact("seccomp", Standing.MISSING, "not in this kernel")


def _landlock() -> Fact:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version > 0:
        return _ok("Landlock", f"version {version} (not used)")
    return Fact("Landlock", Standing.LIMITED, "not in this kernel (not used)")


def _kvm() -> Fact:
    hardware = any(flag in (_read("/proc/cpuinfo") or "").split() for flag in ("vmx", "svm"))
    if Path("/dev/kvm").exists() and hardware:
        return _ok("KVM", "available (not used)")
    return Fact("KVM", Standing.LIMITED, "no hardware virtualisation here (not used)")


def _criu() -> Fact:
    program = shutil.which("criu")
    if program:
        return _ok("CRIU", f"{program} (not used)")
    return Fact("CRIU", Standing.LIMITED, "not installed (not used)")


def _swap() -> Fact:
    swaps = (_read("/proc/swaps") or "").splitlines()[1:]
    if swaps:
        devices = ", ".join(line.split()[0] for line in swaps)
        return _ok("swap", f"{devices}: a paused sandbox's memory can leave RAM")
    detail = "none: a paused sandbox keeps its memory"
    return Fact("swap", Standing.LIMITED, detail, "set up zram or a swap file")


def programs() -> dict[str, list[str]]:
    """What a sandbox is to have of this machine: Debian package → its programs."""
    listed = (resources("template") / "debian-packages.txt").read_text().splitlines()
    lines = [line.split() for line in listed if line and not line.startswith("#")]
    return {package: names for package, *names in lines}


def _tools() -> Fact:
    wanted = programs()
    absent = [package for package, names in wanted.items() if not all(map(_has, names))]
    if not absent:
        return _ok("tools in sandboxes", f"all {len(wanted)} of template/debian-packages.txt")
    remedy = "apt-get install " + " ".join(absent)
    return Fact("tools in sandboxes", Standing.LIMITED, f"missing: {', '.join(absent)}", remedy)


def _has(program: str) -> bool:
    return shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin") is not None


def _side_channels() -> Fact:
    name = "side channels"
    simultaneous = _read("/sys/devices/system/cpu/smt/active") == "1"
    merging = _read("/sys/kernel/mm/ksm/run") == "1"
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    weak = [path.name for path in folder.glob("*") if "Vulnerable" in (_read(str(path)) or "")]
    found = [
        *(["simultaneous multithreading is on"] if simultaneous else []),
        *(["kernel same-page merging is on"] if merging else []),
        *([f"not mitigated: {', '.join(sorted(weak))}"] if weak else []),
    ]
    if not found:
        return _ok(name, "no known setting that helps them")
    remedy = "do not share this machine between parties that distrust each other"
    return Fact(name, Standing.LIMITED, "; ".join(found), remedy)


def _platform() -> Fact:
    detail = f"{platform.system()} {platform.release()} {platform.machine()}"
    if platform.system() == "Linux":
        return _ok("platform", detail)
    remedy = "run the host on Linux; the client works here, set E2B_API_URL to the host"
    return Fact("platform", Standing.MISSING, detail, remedy)


_CHECKS: tuple[Callable[[], Fact], ...] = (
    _platform,
    _namespaces,
    _user_namespaces,
    _subordinate_ids,
    _control_groups,
    _overlay_file_system,
    _id_mapped_mounts,
    _seccomp,
    _landlock,
    _kvm,
    _criu,
    _swap,
    _tools,
    _side_channels,
)
