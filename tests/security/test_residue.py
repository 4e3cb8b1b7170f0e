"""What a sandbox has written is nowhere when it has ended, for no other sandbox and on no disk."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from code_interpreter import Sandbox
from code_interpreter.host import templates
from code_interpreter.host.ids import is_machine_root
from code_interpreter.host.runtimes.base import Limits, SandboxSpec
from code_interpreter.host.runtimes.namespaces import NamespacesRuntime, box_name
from tests.service import Service, mounts_below
from tests.soak.world import until

pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif(not is_machine_root(), reason="looks at every file and disk of the host"),
]
GONE = 30.0
"""Seconds until the files of a sandbox that has ended are gone."""
WRITE = """
import os, pathlib
canary = {canary!r}
block = canary.encode() * 40_000
places = ("/home/user/kept", "/home/user/deleted", "/tmp/x", "/dev/shm/x", "/var/tmp/x")
for place in places:
    with open(place, "wb") as file:
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
os.remove("/home/user/deleted")
os.environ["KEPT"] = canary
pathlib.Path("/home/user", canary).mkdir()
os.sync()
kept = bytearray(block)
"""
SEARCH = r"""
import mmap, os, re, subprocess
pattern = re.compile(b"residue[0-9a-f]{32}")
found = []
places = "/code /dev/shm /etc /home /media /mnt /opt /root /run /srv /tmp /var".split()
command = ["grep", "-rsEl", "--exclude-dir=lib", "residue[0-9a-f]{32}", *places]
found += subprocess.run(command, capture_output=True).stdout.split()
found += [name for _, names, files in os.walk("/home") for name in names + files
          if pattern.search(os.fsencode(name))]
descriptor = os.open("/home/user/unwritten", os.O_RDWR | os.O_CREAT)
os.posix_fallocate(descriptor, 0, 128 << 20)
with mmap.mmap(descriptor, 128 << 20) as space:
    found += pattern.findall(space)
    assert not any(space[n] for n in range(0, len(space), 4096))
with mmap.mmap(-1, 128 << 20) as memory:
    assert not any(memory[n] for n in range(0, len(memory), 4096))
    found += pattern.findall(memory)
segment = os.open("/dev/shm/unwritten", os.O_RDWR | os.O_CREAT)
os.truncate(segment, 64 << 20)
with mmap.mmap(segment, 64 << 20) as memory:
    found += pattern.findall(memory)
print(sorted(map(str, found)))
"""


@pytest.mark.timeout(180)
def test_nothing_can_be_read_afterwards(service: Service) -> None:
    """Of one that runs and of one that is paused when it ends: by the next one and on the host."""
    canaries = [f"residue{secrets.token_hex(16)}" for _ in range(2)]
    boxes = [Sandbox.create(timeout=300, **service.options) for _ in canaries]
    for box, canary in zip(boxes, canaries, strict=True):
        assert box.run_code(WRITE.format(canary=canary)).error is None
        assert _found_in_disk(service.data, box, canary), "what is looked for can be found"
    boxes[1].pause()
    for box in boxes:
        assert box.kill()
    until(lambda: not any(_traces(service.data, box) for box in boxes), GONE)
    for canary in canaries:
        assert _files_with(service.data, canary) == []
    with Sandbox.create(timeout=300, **service.options) as later:
        cell = later.run_code(SEARCH, timeout=100)
        assert cell.error is None
        assert "".join(cell.logs.stdout) == "[]\n"
        for canary in canaries:
            assert not _found_in_disk(service.data, later, canary)


def _traces(data: Path, box: Sandbox) -> list[str]:
    name = box_name(box.sandbox_id)
    places = [data / "sandboxes" / name, data / "run" / name]
    found = [str(place) for place in places if place.exists()] + mounts_below(data)
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if name in file.read_text():
                found.append(str(file))
    return found


def _found_in_disk(data: Path, box: Sandbox, canary: str) -> bool:
    return _holds(data / "sandboxes" / box_name(box.sandbox_id) / "disk.img", canary)


def _holds(path: Path, canary: str) -> bool:
    return any(canary.encode() in part for part in _written(path))


def _files_with(data: Path, canary: str) -> list[Path]:
    """The empty images that the disks of others are copies of, logs and records, too."""
    found = []
    assert list((data / "disks").glob("*.ext4"))
    for path in data.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and _holds(path, canary):
                found.append(path)
    return found


def _written(path: Path) -> Iterator[bytes]:
    """What a file has outside of its holes."""
    with path.open("rb") as file:
        end = 0
        with contextlib.suppress(OSError):  # ENXIO: nothing more
            while True:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                yield os.pread(file.fileno(), end - start, start)


@pytest.mark.timeout(120)
async def test_nor_where_it_has_no_disk_of_its_own(tmp_path: Path) -> None:
    """Its layers are directories of the host then."""
    canary = f"residue{secrets.token_hex(16)}"
    data = tmp_path / "data"
    (data / "run").mkdir(parents=True)
    (data / "sandboxes").mkdir()
    template = templates.make_bare(tmp_path / "template")
    runtime = NamespacesRuntime(data, template, memory_reserve=1 << 28, fork_server=False)
    await runtime.start()
    try:
        box = await runtime.create(SandboxSpec("residue", template.name, Limits()))
        write = f"mkdir -p /tmp/deep/er && echo {canary} > /tmp/deep/er/kept"
        enter = ("nsenter", f"--target={box.pid}", "--user", "--mount", "--setuid=0")
        subprocess.run([*enter, "sh", "-c", write], check=True, timeout=20)
        layers = data / "sandboxes" / box_name("residue")
        assert [path for path in layers.rglob("kept") if canary in path.read_text()]
        await runtime.kill(box)
        assert not layers.exists()
        assert [each for each in data.rglob("*") if each.is_file() and _holds(each, canary)] == []
    finally:
        await runtime.stop()
