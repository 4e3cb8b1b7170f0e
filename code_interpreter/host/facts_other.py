"""Of this machine: tools, side channels, and what nothing here uses yet."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

from code_interpreter.host import own_sudo
from code_interpreter.host.facts import Fact, Standing, ok, read
from code_interpreter.host.ids import IdKind, id_grant, sandboxes_own_usr
from code_interpreter.host.templates import resources

_SYS_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1


def programs() -> dict[str, list[str]]:
    """What a sandbox is to have of this machine: Debian package → its programs."""
    listed = (resources("template") / "debian-packages.txt").read_text().splitlines()
    lines = [line.split() for line in listed if line and not line.startswith("#")]
    return {package: names for package, *names in lines}


def tools() -> Fact:
    name, wanted = "tools in sandboxes", programs()
    absent = [package for package, names in wanted.items() if not all(map(has, names))]
    if not absent:
        return ok(name, f"all {len(wanted)} packages of template/debian-packages.txt")
    remedy = "sudo apt-get install " + " ".join(absent)
    return Fact(name, Standing.LIMITED, f"missing: {', '.join(absent)}", remedy)


def sudo() -> Fact:
    """Of sandboxes: where the host is not root, theirs is a copy; see `own_sudo`."""
    name, kind = "sudo in sandboxes", id_grant().kind
    if sandboxes_own_usr():
        if has("sudo"):
            return ok(name, "this machine's")
        detail = "does not work: this machine, which sandboxes have their programs from, has none"
        return Fact(name, Standing.LIMITED, detail, "sudo apt-get install sudo")
    reason = own_sudo.problem()
    if reason is not None:
        detail, _, remedy = reason.partition(": ")
        return Fact(name, Standing.LIMITED, f"does not work: {detail}", f"sudo {remedy}")
    if kind is IdKind.SINGLE:
        detail = "works, to root only, which user is another name of there"
        return Fact(name, Standing.LIMITED, detail, "as for user ids")
    return ok(name, "a copy of this machine's, which belongs to the sandboxes' root")


def has(program: str) -> bool:
    return shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin") is not None


def side_channels() -> Fact:
    """What helps a sandbox to learn of another one what the kernel does not tell it."""
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    weak = sorted(path.name for path in folder.glob("*") if "Vulnerable" in (read(path) or ""))
    found, remedies = [], []
    if read("/sys/devices/system/cpu/smt/active") == "1":
        found.append("simultaneous multithreading is on")
        remedies.append("echo off | sudo tee /sys/devices/system/cpu/smt/control")
    if read("/sys/kernel/mm/ksm/run") == "1":
        found.append("same pages are merged (KSM)")
        remedies.append("echo 2 | sudo tee /sys/kernel/mm/ksm/run")
    if weak:
        found.append(f"not mitigated: {', '.join(weak)}")
        remedies.append("newer kernel and microcode, booted without mitigations=off")
    if not found:
        return ok("side channels", "no known setting that helps them")
    return Fact("side channels", Standing.LIMITED, "; ".join(found), "; ".join(remedies))


def landlock() -> Fact:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    detail = f"version {version}" if version > 0 else "not in this kernel"
    return Fact("Landlock", Standing.UNUSED, detail)


def kvm() -> Fact:
    hardware = any(flag in (read("/proc/cpuinfo") or "").split() for flag in ("vmx", "svm"))
    usable = hardware and Path("/dev/kvm").exists()
    return Fact("KVM", Standing.UNUSED, "available" if usable else "no hardware virtualisation")


def criu() -> Fact:
    return Fact("CRIU", Standing.UNUSED, shutil.which("criu") or "not installed")
