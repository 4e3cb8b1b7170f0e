"""What a program of a sandbox was handed when it was started leads nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from e2b import PtySize
from e2b.exceptions import SandboxException

from code_interpreter import Sandbox
from tests.service import Service

pytestmark = pytest.mark.security
LOOK = """
import json, os, stat, sys, tempfile

def top(path):
    \"\"\"Device and inode of the uppermost directory above one.\"\"\"
    descriptor = os.open(path, os.O_PATH)
    here = os.fstat(descriptor)
    for _ in range(100):
        descriptor = os.open("..", os.O_PATH, dir_fd=descriptor)
        above = os.fstat(descriptor)
        if (above.st_dev, above.st_ino) == (here.st_dev, here.st_ino):
            break
        here = above
    return [here.st_dev, here.st_ino]

def is_here(name, opened):
    \"\"\"Is it the file that has this name in the sandbox, or had it?\"\"\"
    if name.startswith("/memfd:"):
        return True
    gone = name.removesuffix(" (deleted)")
    if gone != name:  # directories of an overlay have another number
        with tempfile.TemporaryFile(dir=os.path.dirname(gone)) as beside:
            return os.fstat(beside.fileno()).st_dev == opened.st_dev
    there = os.stat(name)
    return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)

def look(process):
    root = os.stat("/")
    found = {"cwd": os.readlink(f"{process}/cwd"), "tops": [], "links": [], "strays": []}
    found["program"] = open(f"{process}/cmdline").read().split("\\0")
    found["root"] = [root.st_dev, root.st_ino]
    for name in os.listdir(f"{process}/fd"):
        path = f"{process}/fd/{name}"
        try:
            link = os.readlink(path)
            found["links"].append([int(name), link])
            if link.startswith("/") and not is_here(link, os.stat(path)):
                found["strays"].append(link)
            if stat.S_ISDIR(os.stat(path).st_mode):
                found["tops"].append(top(path))
        except FileNotFoundError:
            if os.path.lexists(path):
                found["strays"].append(link)
            # else that of the listing itself
    return found | {"tops": [*found["tops"], top(f"{process}/cwd"), top(f"{process}/root")]}

if sys.argv[1:] == ["all"]:
    entries = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    seen = {}
    for entry in entries:
        try:
            seen[entry] = look(f"/proc/{entry}")
        except (PermissionError, FileNotFoundError):
            pass  # a supervisor's, or one that has ended
    print(json.dumps(seen))
else:
    print(json.dumps(look("/proc/self")))
"""


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    with Sandbox.create(timeout=300, **service.options) as sandbox:
        sandbox.files.write("/tmp/look.py", LOOK)
        yield sandbox


def _check(told: str) -> list[int]:
    """Numbers of the descriptors."""
    found = json.loads(told)
    assert found["cwd"].startswith("/home/user"), found
    return _check_process(found)


def _check_process(found: dict[str, Any]) -> list[int]:
    assert all(top == found["root"] for top in found["tops"]), found
    assert "(unreachable)" not in found["cwd"]
    assert found["strays"] == [], found
    return sorted(number for number, _ in found["links"])


STANDARD = {0, 1, 2}


@pytest.mark.parametrize("user", ["user", "root"])
def test_a_command_has_the_standard_ones(box: Sandbox, user: str) -> None:
    told = box.commands.run("python3 /tmp/look.py", user=user, cwd="/home/user").stdout
    assert set(_check(told)) <= STANDARD


def test_one_in_the_background_too(box: Sandbox) -> None:
    handle = box.commands.run("python3 /tmp/look.py", background=True, stdin=True)
    assert set(_check(handle.wait().stdout)) <= STANDARD


def test_root_by_sudo_too(box: Sandbox) -> None:
    told = box.commands.run("sudo python3 /tmp/look.py").stdout
    assert set(_check(told)) <= STANDARD


@pytest.mark.parametrize("user", ["user", "root"])
def test_a_terminal_has_itself_alone(box: Sandbox, user: str) -> None:
    said: list[bytes] = []
    terminal = box.pty.create(PtySize(rows=24, cols=4000), user=user, cwd="/home/user")
    look = "python3 /tmp/look.py; sudo python3 /tmp/look.py; readlink /proc/$$/fd/*; exit 0"
    box.pty.send_stdin(terminal.pid, f"{look}\n".encode())
    terminal.wait(on_pty=said.append)
    lines = b"".join(said).decode().splitlines()
    looks = [line for line in lines if line.startswith("{")]
    assert len(looks) == 2, lines
    for told in looks:
        assert set(_check(told)) <= STANDARD
    links = [line for line in lines if line.startswith("/dev/")]
    assert len(links) >= 3, lines
    assert len(set(links)) == 1
    assert links[0].startswith("/dev/pts/")
    assert not [line for line in lines if line.startswith(("/proc", "/run", "pipe:", "socket:"))]


def test_a_kernels_lead_nowhere_else(box: Sandbox) -> None:
    _check("".join(box.run_code(LOOK).logs.stdout))


CELLS = {
    "bash": "python3 /tmp/look.py",
    "javascript": "const run = new Deno.Command('python3', {args: ['/tmp/look.py']});\n"
    "console.log(new TextDecoder().decode((await run.output()).stdout))",
    "r": "cat(system('python3 /tmp/look.py', intern = TRUE))",
    "java": 'var run = new ProcessBuilder("python3", "/tmp/look.py").start();\n'
    "System.out.write(run.getInputStream().readAllBytes());",
}
"""Cells that start a program."""


def _cell(box: Sandbox, language: str) -> str:
    try:
        cell = box.run_code(CELLS[language], language=language, timeout=50)
    except SandboxException as refusal:
        if "is not installed" not in str(refusal):
            raise
        pytest.skip(f"this machine has no {language}: {refusal}")
    assert cell.error is None, cell.error
    return "".join(cell.logs.stdout)


@pytest.mark.parametrize("language", CELLS)
def test_those_of_other_languages_lead_nowhere_else(box: Sandbox, language: str) -> None:
    beyond = set(_check(_cell(box, language))) - STANDARD
    own = {"bash": "which reports to its kernel through pipes", "r": "which keeps a script open"}
    assert not beyond or language in own


def test_no_process_of_user_code_has_any_that_leads_elsewhere(box: Sandbox) -> None:
    """The kernels themselves, what they run in, and what goes on beside them."""
    box.run_code(CELLS["bash"], language="bash")
    box.run_code(CELLS["javascript"], language="javascript")
    waiting = box.commands.run("sudo sleep 60", background=True)
    terminal = box.pty.create(PtySize(rows=24, cols=80))
    try:
        told = box.commands.run("python3 /tmp/look.py all", user="root").stdout
    finally:
        waiting.kill()
        terminal.kill()
    found: dict[str, dict[str, Any]] = json.loads(told)
    for process in found.values():
        _check_process(process)
    programs = " ".join(" ".join(process["program"]) for process in found.values())
    for each in ("bash", "deno", "sleep", "python"):
        assert each in programs
