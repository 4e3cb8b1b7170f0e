"""What a program of a sandbox was handed when it was started leads nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from code_interpreter import Sandbox
from tests.service import Service

pytestmark = pytest.mark.security
LOOK = """
import json, os, stat

def top(descriptor):
    \"\"\"Device and inode of the uppermost directory above an open one.\"\"\"
    here = os.fstat(descriptor)
    for _ in range(100):
        descriptor = os.open("..", os.O_RDONLY, dir_fd=descriptor)
        above = os.fstat(descriptor)
        if (above.st_dev, above.st_ino) == (here.st_dev, here.st_ino):
            break
        here = above
    return [here.st_dev, here.st_ino]

root = os.stat("/")
found = {"cwd": os.readlink("/proc/self/cwd"), "tops": [], "links": []}
found["root"] = [root.st_dev, root.st_ino]
for name in os.listdir("/proc/self/fd"):
    try:
        found["links"].append([int(name), os.readlink(f"/proc/self/fd/{name}")])
    except OSError:
        pass  # that of the listing itself
directories = [n for n, _ in found["links"] if stat.S_ISDIR(os.fstat(n).st_mode)]
found["tops"] = [top(each) for each in (*directories, os.open(".", os.O_RDONLY))]
print(json.dumps(found))
"""
NO_FILES = ("pipe:[", "socket:[", "anon_inode:", "/dev/null", "/dev/pts/", "/proc/", "/memfd:")
KERNELS_OWN = ("/home/user/.ipython/", "/tmp/ipykernel_")


@pytest.fixture(scope="module")
def box(service: Service) -> Iterator[Sandbox]:
    with Sandbox.create(timeout=300, **service.options) as sandbox:
        sandbox.files.write("/tmp/look.py", LOOK)
        yield sandbox


def _check(told: str) -> list[int]:
    """Numbers of the descriptors."""
    found = json.loads(told)
    assert all(top == found["root"] for top in found["tops"]), found
    assert found["cwd"].startswith("/home/user"), found
    assert "(unreachable)" not in found["cwd"]
    for _, link in found["links"]:
        assert link.startswith((*NO_FILES, *KERNELS_OWN)) or link in ("/", "/home/user"), found
    return sorted(number for number, _ in found["links"])


@pytest.mark.parametrize("user", ["user", "root"])
def test_a_command_has_the_standard_ones(box: Sandbox, user: str) -> None:
    told = box.commands.run("python3 /tmp/look.py", user=user, cwd="/home/user").stdout
    assert set(_check(told)) <= {0, 1, 2, 3, 4}, "3 and 4 are of the look itself"


def test_a_kernels_lead_nowhere_else(box: Sandbox) -> None:
    _check("".join(box.run_code(LOOK).logs.stdout))


@pytest.mark.parametrize("language", ["bash", "javascript"])
def test_those_of_other_languages_lead_nowhere_else(box: Sandbox, language: str) -> None:
    code = {
        "bash": "python3 /tmp/look.py",
        "javascript": "const run = new Deno.Command('python3', {args: ['/tmp/look.py']});\n"
        "console.log(new TextDecoder().decode((await run.output()).stdout))",
    }[language]
    told = "".join(box.run_code(code, language=language, timeout=50).logs.stdout)
    beyond = set(_check(told)) - {0, 1, 2, 3, 4}
    assert not beyond or language == "bash", "which reports to its kernel through pipes"
