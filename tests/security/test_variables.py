"""Environment variables that make programs load code: they are for user code alone, as data."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from e2b.exceptions import InvalidArgumentException, SandboxException

from code_interpreter import Sandbox
from tests.envd import supervisors
from tests.service import Service

pytestmark = pytest.mark.security
LOADERS = {
    "LD_PRELOAD": "/tmp/evil.so",
    "LD_LIBRARY_PATH": "/tmp",
    "PYTHONSTARTUP": "/tmp/evil.py",
    "PYTHONPATH": "/tmp/evil",
    "PYTHONHOME": "/nowhere",
    "BASH_ENV": "/tmp/evil.sh",
    "ENV": "/tmp/evil.sh",
    "NODE_OPTIONS": "--require /tmp/evil.js",
    "GCONV_PATH": "/tmp",
    "PATH": "/tmp/evil:/usr/local/bin:/usr/bin:/bin",
}
VALUES = ("'", '"', "a'b\"c`d$(id)", "\n1/0\n", "\\", "%s{0}", "é\u202e", " ", "a=b", "x" * 10_000)


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    """Every one of its commands and cells gets what would load code."""
    with Sandbox.create(timeout=300, envs=LOADERS, **service.options) as sandbox:
        sandbox.files.write("/tmp/evil.sh", "id >> /tmp/ran\n")
        sandbox.files.write("/tmp/evil.py", "open('/tmp/ran', 'a').write('python')\n")
        for name in ("mv", "ldconfig", "python3", "sh"):
            sandbox.files.write(f"/tmp/evil/{name}", "#!/bin/sh\nid -u >> /tmp/ran\n")
        sandbox.files.write("/tmp/evil/sitecustomize.py", "open('/tmp/ran', 'a').write('site')\n")
        yield sandbox


def test_they_reach_no_supervisor(box: Sandbox) -> None:
    if os.getuid() != 0:
        pytest.skip("only root sees the supervisors from outside")
    for process in supervisors.processes(box.sandbox_id):
        environment = process.environ()
        for name, value in LOADERS.items():
            assert environment.get(name) != value, (process, name)


def test_what_a_supervisor_does_runs_none_of_it(box: Sandbox) -> None:
    box.files.remove("/tmp/ran")
    box.files.write("/tmp/moved", "x")
    box.files.rename("/tmp/moved", "/dev/shm/moved")  # another file system: with a program
    box.files.list("/tmp", depth=2)
    box.files.watch_dir("/tmp").stop()
    box.create_code_context()
    assert box.run_code("6 * 7").text == "42"
    assert not box.files.exists("/tmp/ran")


def test_they_are_there_for_user_code(box: Sandbox) -> None:
    told = box.commands.run("env", envs={"LD_PRELOAD": ""}).stdout
    for name in ("PYTHONSTARTUP", "BASH_ENV", "NODE_OPTIONS"):
        assert f"{name}={LOADERS[name]}" in told


@pytest.mark.parametrize("value", VALUES)
def test_values_are_data(box: Sandbox, value: str) -> None:
    envs = {"VALUE": value, "LD_PRELOAD": "", "BASH_ENV": ""}
    cell = box.run_code("import os; print(repr(os.environ['VALUE']))", envs=envs)
    assert cell.error is None
    assert "".join(cell.logs.stdout) == f"{value!r}\n"
    assert box.commands.run('printf %s "$VALUE"', envs=envs).stdout == value


@pytest.mark.parametrize("name", ["", "A=B", "A\0B"])
def test_names_that_are_none_are_refused(box: Sandbox, name: str) -> None:
    with pytest.raises((InvalidArgumentException, SandboxException)):
        box.commands.run("true", envs={name: "x"})
    with pytest.raises(SandboxException):
        box.run_code("1", envs={name: "x"})


@pytest.mark.parametrize(
    "name",
    ["A B", "A\nB", "1", "A-B", "é", "__import__('os').system('id')", "$(touch /tmp/made)"],
)
def test_odd_names_are_data(box: Sandbox, name: str) -> None:
    code = f"import os; print(os.environ.get({name!r}))"
    cell = box.run_code(code, envs={name: "odd"})
    assert "".join(cell.logs.stdout) == "odd\n"
    assert not box.files.exists("/tmp/made")


DIRECTORIES = (
    "/nowhere",
    "/tmp/\n1/0\n",
    "'; 1/0; '",
    '"; 1/0; "',
    "$(touch /tmp/made)",
    "/tmp\0x",
)


@pytest.mark.parametrize("value", DIRECTORIES)
def test_a_directory_is_data(box: Sandbox, value: str) -> None:
    with pytest.raises(SandboxException):
        box.create_code_context(cwd=value)
    with pytest.raises(SandboxException):
        box.commands.run("true", cwd=value)
    assert not box.files.exists("/tmp/made")


@pytest.mark.parametrize("value", ["../python", "; id", "/etc/passwd", "\0", "x" * 999])
def test_a_language_is_data(box: Sandbox, value: str) -> None:
    with pytest.raises(SandboxException):
        box.create_code_context(language=value)


def test_a_supervisor_started_again_is_as_clean(box: Sandbox) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may end a supervisor")
    for process in supervisors.processes(box.sandbox_id)[1:]:
        process.kill()
    deadline = time.monotonic() + 20
    while not box.is_running():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    test_they_reach_no_supervisor(box)
