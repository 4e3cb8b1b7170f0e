"""Running what attacks from inside a sandbox."""

from __future__ import annotations

from e2b import CommandExitException, Sandbox


def run(box: Sandbox, command: str, user: str = "root") -> str:
    """Output of both streams, whatever the exit code."""
    try:
        result = box.commands.run(command, user=user, timeout=30)
    except CommandExitException as error:
        return f"{error.stdout}{error.stderr}"
    return f"{result.stdout}{result.stderr}"


def python(box: Sandbox, source: str, user: str = "root") -> str:
    box.files.write("/tmp/probe.py", source)
    return run(box, "python3 /tmp/probe.py", user)
