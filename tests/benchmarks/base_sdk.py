"""Commands, files and watching through E2B's base client, beside the same done without us."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from e2b import AsyncSandbox, Sandbox

import code_interpreter
from tests.benchmarks.samples import Row, Samples

ROUNDS = 200
WARM_UP = 10
SIZES = {"1 kB": (1_000, 200), "1 MB": (1_000_000, 60), "1 GB": (1_000_000_000, 2)}
"""Bytes, and how often."""
_PIECE = 1 << 20


def _time(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@contextmanager
def _sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=1800)
    try:
        yield sandbox
    finally:
        sandbox.kill()


def commands() -> list[Row]:
    """What the client asks for is a login shell; alone it is one without this machine's profile."""
    alone, ours = Samples("bash -c true, a subprocess"), Samples('commands.run("true")')
    command = ["bash", "--norc", "-c", "true"]
    with _sandbox() as sandbox:
        for number in range(ROUNDS + WARM_UP):
            alone_seconds = _time(lambda: subprocess.run(command, check=True))
            seconds = _time(lambda: sandbox.commands.run("true"))
            if number >= WARM_UP:
                alone.add(alone_seconds)
                ours.add(seconds)
    return [alone.row(), ours.row(baseline=alone)]


def files() -> list[Row]:
    """Writing and reading, beside a copy of the same bytes on this machine's disk."""
    rows = []
    with _sandbox() as sandbox, tempfile.TemporaryDirectory() as name:
        for size, (length, count) in SIZES.items():
            source = Path(name, "source")
            with source.open("wb") as file:
                for start in range(0, length, _PIECE):
                    file.write(os.urandom(min(_PIECE, length - start)))
            rows += _transfers(sandbox, source, size, count)
        rows += _listing(sandbox, Path(name))
        rows += _directories(Path(name))
    return rows


def _transfers(sandbox: Sandbox, source: Path, size: str, count: int) -> list[Row]:
    copy, write = Samples(f"copy {size}"), Samples(f"files.write {size}")
    read = Samples(f"files.read {size}")
    for _ in range(count):
        copy.add(_time(lambda: shutil.copyfile(source, source.with_name("copy"))))
        write.add(_time(lambda: _upload(sandbox, source)))
        read.add(_time(lambda: _download(sandbox, source.stat().st_size)))
    return [copy.row(), write.row(baseline=copy), read.row(baseline=copy)]


def _upload(sandbox: Sandbox, source: Path) -> None:
    if source.stat().st_size <= _PIECE:
        sandbox.files.write("file", source.read_bytes())
        return
    with source.open("rb") as file:
        sandbox.files.write("file", file, request_timeout=0)


def _download(sandbox: Sandbox, length: int) -> None:
    if length <= _PIECE:
        received = len(sandbox.files.read("file", format="bytes"))
    else:
        stream = sandbox.files.read("file", format="stream", request_timeout=600)
        received = sum(len(piece) for piece in stream)
    assert received == length


def _listing(sandbox: Sandbox, here: Path) -> list[Row]:
    sandbox.commands.run("mkdir many && cd many && touch $(seq 1000)")
    twin = here / "many"
    twin.mkdir()
    for number in range(1000):
        (twin / str(number)).touch()
    alone, ours = Samples("ls -l of 1,000 files"), Samples("files.list of 1,000 files")
    listing = ["ls", "-l", str(twin)]
    for _ in range(50):
        alone.add(_time(lambda: subprocess.run(listing, check=True, capture_output=True)))
        ours.add(_time(lambda: len(sandbox.files.list("many"))))
    return [alone.row(), ours.row(baseline=alone)]


def _directories(here: Path) -> list[Row]:
    """1,000 files of 100 kB, by the calls that E2B's client does not have."""
    tree = here / "tree"
    tree.mkdir()
    for number in range(1000):
        (tree / str(number)).write_bytes(os.urandom(100_000))
    copy, up, down = Samples("cp -r of 1,000 files"), Samples("upload_dir"), Samples("download_dir")
    with code_interpreter.Sandbox.create(timeout=1800) as sandbox:
        for number in range(5):
            twin, back = here / f"copy-{number}", here / f"back-{number}"
            copy.add(_time(partial(shutil.copytree, tree, twin)))
            up.add(_time(partial(sandbox.files.upload_dir, tree, "tree")))
            down.add(_time(partial(sandbox.files.download_dir, "tree", back)))
    return [copy.row(), up.row(baseline=copy), down.row(baseline=copy)]


def watching() -> list[Row]:
    """From the start of a write to the news of it, beside the write itself."""
    return asyncio.run(_watching())


async def _watching() -> list[Row]:
    write, news = Samples("files.write 10 bytes"), Samples("its event, files.watch_dir")
    sandbox = await AsyncSandbox.create(timeout=600)
    try:
        await sandbox.files.make_dir("watched")
        arrived: asyncio.Queue[float] = asyncio.Queue()
        watch = await sandbox.files.watch_dir(
            "watched", lambda event: arrived.put_nowait(time.perf_counter())
        )
        for number in range(ROUNDS + WARM_UP):
            started = time.perf_counter()
            await sandbox.files.write(f"watched/{number}", "ten bytes.")
            written = time.perf_counter()
            moments = [await asyncio.wait_for(arrived.get(), 10) for _ in range(3)]
            if number >= WARM_UP:
                write.add(written - started)
                news.add(moments[-1] - started)
        await watch.stop()  # type: ignore[no-untyped-call]
    finally:
        await sandbox.kill()
    return [write.row(), news.row(baseline=write)]
