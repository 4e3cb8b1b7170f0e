"""``sudo`` for the sandboxes of a host that is not root.

In those, root is the host's own user, so this machine's sudo belongs to nobody there and
the kernel ignores its set-user-id bit. A copy that belongs to the host's user belongs to
root inside. It gives no rights outside: there it is a program that becomes the host's user,
in a directory that nobody else may enter, and sudo refuses to be anything but root.
"""

from __future__ import annotations

import shutil
from pathlib import Path

PROGRAM = Path("/usr/bin/sudo")
_PLUGINS = (Path("/usr/libexec/sudo"), Path("/usr/lib/sudo"))
_NAMES = ("sudoers_policy", "sudoers_io", "sudoers_audit")
_INSIDE = "/usr/local/libexec/sudo"


def problem() -> str | None:
    """Why there cannot be a copy, and what helps; None if there can."""
    if not PROGRAM.exists():
        return f"{PROGRAM} is missing: apt-get install sudo"
    try:
        with PROGRAM.open("rb"):
            pass
    except OSError:
        return f"{PROGRAM} cannot be read: chmod o+r {PROGRAM}"
    if _plugins() is None:
        return f"{_PLUGINS[0]}/sudoers.so is missing: apt-get install sudo"
    return None


def install(local: Path) -> None:
    """Put a copy into a template's ``/usr/local``; without one its users are told why."""
    program = local / "bin" / "sudo"
    reason, plugins = problem(), _plugins()
    if reason is not None or plugins is None:
        words = f"not in this sandbox: its host does not run as root, and {reason}"
        program.write_text(f'#!/bin/sh\necho "sudo: {words}" >&2\nexit 1\n')
        program.chmod(0o755)
        return
    shutil.copyfile(PROGRAM, program)
    program.chmod(0o4755)
    shutil.copytree(plugins, local / "libexec" / "sudo", symlinks=True)


def configure(etc: Path, *, one_account: bool) -> None:
    """Have the copy find its plugins; nothing where there is no copy."""
    if problem() is not None:
        return
    # One account can neither become another to read a file nor change its groups.
    options = " sudoers_mode=0400" if one_account else ""
    lines = [f"Plugin {name} {_INSIDE}/sudoers.so{options}\n" for name in _NAMES]
    (etc / "sudo.conf").write_text("".join(lines))
    if one_account:
        sudoers = etc / "sudoers"
        sudoers.chmod(0o600)
        sudoers.write_text(sudoers.read_text() + "Defaults preserve_groups\n")
        sudoers.chmod(0o400)


def _plugins() -> Path | None:
    return next((place for place in _PLUGINS if (place / "sudoers.so").exists()), None)
