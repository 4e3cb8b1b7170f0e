"""Of this machine: what keeps sandboxes apart from it and from one another."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path

from code_interpreter.host.containers import container, least_way, whole_way
from code_interpreter.host.facts import Fact, Standing, as_root, ok, read, works
from code_interpreter.host.ids import (
    SYS_ADMIN,
    IdKind,
    has_capability,
    id_grant,
    is_machine_root,
    sandboxes_own_usr,
    user_name,
)
from code_interpreter.host.trial import Trial

_CAPABILITIES = {
    23: "CAP_SYS_NICE: supervisors come no sooner than user code",
    24: "CAP_SYS_RESOURCE: open files stay limited to what the host itself has",
}
_RESTRICTIONS = (
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor lets only listed programs of ordinary users have them (Ubuntu since 23.10)",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    (
        "kernel.unprivileged_userns_clone",
        "0",
        "ordinary users may not make them",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "user.max_user_namespaces",
        "0",
        "none may be made",
        "sudo sysctl -w user.max_user_namespaces=10000",
    ),
)
_OVERLAY_SINCE, _MAPPED_OVERLAY_SINCE = (5, 11), (5, 19)


def linux_version() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor[:3])) or 0)


def system() -> Fact:
    name, detail = "platform", f"{platform.system()} {platform.release()}, {platform.machine()}"
    if platform.system() == "Linux":
        return ok(name, detail)
    remedy = "run the host on Linux; the client works here, with E2B_API_URL set to that host"
    return Fact(name, Standing.MISSING, detail, remedy)


def sandbox(trial: Trial) -> Fact:
    """Whether one could be made, as a host makes them."""
    name = "a sandbox"
    if trial.made:
        return ok(name, f"made, limited, locked up and ended again; made in {trial.seconds:.1f} s")
    words = trial.refused.strip().splitlines()[-1]
    if "/proc'" in words:
        detail = "cannot be made: it gets no /proc of its own where parts of this one are hidden"
        return Fact(name, Standing.MISSING, detail, least_way())
    remedy = least_way() if container() else ""
    return Fact(name, Standing.MISSING, f"cannot be made: {words[:200]}", remedy)


def privileges() -> Fact:
    name = "privileges"
    if os.getuid() != 0:
        detail = f"{user_name()}, an ordinary user"
        return Fact(name, Standing.LIMITED, detail, as_root())
    if not has_capability(SYS_ADMIN):
        return Fact(name, Standing.LIMITED, "root, who may not mount (CAP_SYS_ADMIN)", as_root())
    if not is_machine_root():
        detail = "root of a user namespace only, as in a rootless container"
        return Fact(name, Standing.LIMITED, detail, as_root())
    absent = [text for number, text in _CAPABILITIES.items() if not has_capability(number)]
    if not absent:
        return ok(name, "root")
    remedy = whole_way() if container() else "start the host where they are not dropped"
    return Fact(name, Standing.LIMITED, f"root, without {'; '.join(absent)}", remedy)


def namespaces(trial: Trial) -> Fact:
    name, kinds = "namespaces", "processes, mounts, network, IPC, host name"
    if trial.made or works(*_unshare(), "--pid", "--fork", "--net", "--ipc", "--uts", "true"):
        return ok(name, kinds)
    detail = f"the kernel refuses new ones: {kinds}"
    return Fact(name, Standing.MISSING, detail, least_way() if container() else as_root())


def user_namespaces(trial: Trial) -> Fact:
    name = "user namespaces"
    restriction = _restriction()
    if trial.made or works("unshare", "--user", "--map-root-user", "true"):
        nested = "one in another, as sandboxes have them" if trial.made else "available"
        if restriction is None or os.getuid() != 0:
            return ok(name, nested)
        return ok(name, f"{nested}, for root; not for others: {restriction[0]}")
    if restriction is not None:
        return Fact(name, Standing.MISSING, *restriction)
    remedy = least_way() if container() else as_root()
    return Fact(name, Standing.MISSING, "the kernel refuses them", remedy)


def _restriction() -> tuple[str, str] | None:
    """What holds them back, and how to change it."""
    for setting, bad, meaning, remedy in _RESTRICTIONS:
        if read(Path("/proc/sys", setting.replace(".", "/"))) == bad:
            return f"{setting} = {bad}: {meaning}", remedy
    return None


def subordinate_ids() -> Fact:
    name, kind = "user ids", id_grant().kind
    if kind is IdKind.ALL:
        return ok(name, "a range of its own for each sandbox")
    if kind is IdKind.RANGE:
        first, count = id_grant().uids or (0, 0)
        detail = f"{count} from {first} on, of /etc/subuid, shared by all sandboxes"
        return Fact(name, Standing.LIMITED, detail, as_root())
    if os.getuid() == 0:
        detail = "one, for root and user alike: this is not root of the whole machine"
        return Fact(name, Standing.LIMITED, detail, as_root())
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        detail = "one, for root and user alike: newuidmap and newgidmap are not installed"
        return Fact(name, Standing.LIMITED, detail, "sudo apt-get install uidmap")
    detail = f"one, for root and user alike: no 65536 ids for {user_name()} in /etc/subuid, subgid"
    ids = "100000-165535"
    remedy = f"sudo usermod --add-subuids {ids} --add-subgids {ids} {user_name()}"
    return Fact(name, Standing.LIMITED, detail, remedy)


def overlay(directory: Path, trial: Trial) -> Fact:
    """Mounts one, in a namespace of its own, with its writable part in ``directory``."""
    name = "overlayfs"
    if trial.made or _mounts_overlay(directory):
        return ok(name, "mounted, over the data directory")
    if "overlay" not in (read("/proc/filesystems") or ""):
        return Fact(name, Standing.MISSING, "not in this kernel", "sudo modprobe overlay")
    if linux_version() < _OVERLAY_SINCE and os.getuid() != 0:
        return Fact(name, Standing.MISSING, "for ordinary users since Linux 5.11", "run as root")
    if not works(*_unshare(), "true"):
        return Fact(name, Standing.UNUSED, "not tried: nothing may be mounted here")
    detail = f"cannot be mounted over {directory}"
    remedy = "--data-dir on ext4, xfs or btrfs; not on overlayfs (as in a container) or NFS"
    return Fact(name, Standing.MISSING, detail, remedy)


def _mounts_overlay(directory: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=directory, prefix="doctor-") as place:
        parts = {part: Path(place, part) for part in ("lower", "upper", "work", "merged")}
        for part in parts.values():
            part.mkdir()
        options = ",".join(
            [f"{part}dir={parts[part]}" for part in ("lower", "upper", "work")]
            + ([] if is_machine_root() else ["userxattr"])
        )
        mount = ("mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"]))
        return works(*_unshare(), *mount)


def id_mapped_mounts(trial: Trial) -> Fact:
    name = "id-mapped mounts"
    if not is_machine_root():
        return Fact(name, Standing.UNUSED, "only root may make them")
    if trial.made and sandboxes_own_usr():
        return ok(name, "of every layer of a sandbox")
    if trial.made:
        detail = "not of /usr, which is on overlayfs: root in sandboxes cannot change it"
        return Fact(name, Standing.LIMITED, detail, "a volume or bind mount at /usr")
    if linux_version() < _MAPPED_OVERLAY_SINCE:
        detail = f"of overlayfs since Linux 5.19, and this is {platform.release()}"
        return Fact(name, Standing.MISSING, detail, "a newer kernel, or an ordinary user's host")
    if "mount_setattr" in trial.refused:
        detail = f"refused: {trial.refused.strip().splitlines()[-1]}"
        return Fact(name, Standing.MISSING, detail, "--data-dir on ext4, xfs or btrfs")
    return Fact(name, Standing.UNUSED, "not tried: it did not get so far")


def seccomp(trial: Trial) -> Fact:
    name = "seccomp"
    if platform.machine() not in ("x86_64", "aarch64"):
        return Fact(name, Standing.MISSING, f"no filter for {platform.machine()} here")
    if trial.made:
        return ok(name, "a filter on supervisors and user code")
    if "errno" in (read("/proc/sys/kernel/seccomp/actions_avail") or ""):
        return ok(name, "in this kernel; not tried, as no sandbox could be made")
    return Fact(name, Standing.MISSING, "not in this kernel", "a kernel with CONFIG_SECCOMP_FILTER")


def _unshare() -> tuple[str, ...]:
    own = () if is_machine_root() else ("--user", "--map-root-user")
    return ("unshare", *own, "--mount")
