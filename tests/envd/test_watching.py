"""Watching directories with E2B's Python clients: polling (sync) and streaming (async)."""

from __future__ import annotations

import asyncio
import time

import pytest
from e2b import (
    AsyncSandbox,
    FileNotFoundException,
    FilesystemEvent,
    FilesystemEventType,
    InvalidArgumentException,
    Sandbox,
    SandboxException,
)

from tests.service import Service

CREATE, WRITE, REMOVE, RENAME, CHMOD = (
    FilesystemEventType.CREATE,
    FilesystemEventType.WRITE,
    FilesystemEventType.REMOVE,
    FilesystemEventType.RENAME,
    FilesystemEventType.CHMOD,
)


def told(events: list[FilesystemEvent]) -> list[tuple[str, FilesystemEventType]]:
    return [(event.name, event.type) for event in events]


def test_a_new_file_is_three_events(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place)
    box.files.write(f"{place}/new.txt", "content")
    assert told(watch.get_new_events()) == [
        ("new.txt", CREATE),
        ("new.txt", CHMOD),
        ("new.txt", WRITE),
    ]
    assert watch.get_new_events() == []
    watch.stop()


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_old_file_is_written_once(box: Sandbox, place: str, size: int) -> None:
    box.files.write(f"{place}/old", "content")
    watch = box.files.watch_dir(place)
    box.files.write(f"{place}/old", "x" * size)
    assert told(watch.get_new_events()) == [("old", CHMOD), ("old", WRITE)]
    watch.stop()


def test_every_kind_of_change(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place)
    box.commands.run("echo > a; chmod 600 a; mv a b; rm b; mkdir d; rmdir d", cwd=place)
    assert told(watch.get_new_events()) == [
        ("a", CREATE),
        ("a", WRITE),
        ("a", CHMOD),
        ("a", RENAME),
        ("b", CREATE),
        ("b", REMOVE),
        ("d", CREATE),
        ("d", REMOVE),
    ]
    watch.stop()


def test_not_what_is_deeper(box: Sandbox, place: str) -> None:
    box.files.make_dir(f"{place}/sub")
    watch = box.files.watch_dir(place)
    box.files.write(f"{place}/sub/file", "x")
    assert watch.get_new_events() == []
    watch.stop()


def test_what_is_deeper(box: Sandbox, place: str) -> None:
    box.files.make_dir(f"{place}/sub/deep")
    watch = box.files.watch_dir(place, recursive=True)
    box.files.write(f"{place}/sub/deep/file", "x")
    assert told(watch.get_new_events()) == [
        ("sub/deep/file", CREATE),
        ("sub/deep/file", CHMOD),
        ("sub/deep/file", WRITE),
    ]
    watch.stop()


def test_a_directory_that_was_made_a_moment_ago(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place, recursive=True)
    box.files.write(f"{place}/x/y/z/file", "content")
    events = told(watch.get_new_events())
    for name in ("x", "x/y", "x/y/z", "x/y/z/file"):
        assert events.count((name, CREATE)) == 1
    file = [event for event in events if event[0] == "x/y/z/file"]
    assert [file[0], file[-1]] == [("x/y/z/file", CREATE), ("x/y/z/file", WRITE)]
    assert events.count(("x/y/z/file", WRITE)) == 1
    watch.stop()


@pytest.mark.parametrize("turn", range(5))
def test_nothing_is_lost_in_a_rush(box: Sandbox, place: str, turn: int) -> None:
    watch = box.files.watch_dir(place, recursive=True)
    script = "for n in $(seq 60); do mkdir -p d$n/a/b; echo x > d$n/a/b/f; echo y > d$n/g; done"
    box.commands.run(script, cwd=place)
    events = told(watch.get_new_events())
    for number in range(1, 61):
        for name in ("", "/a", "/a/b", "/a/b/f", "/g"):
            assert events.count((f"d{number}{name}", CREATE)) == 1
        for name in ("/a/b/f", "/g"):
            assert events.count((f"d{number}{name}", WRITE)) == 1
    watch.stop()


def test_made_again(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place, recursive=True)
    box.commands.run("mkdir d; echo > d/f", cwd=place)
    watch.get_new_events()
    box.commands.run("rm d/f; echo > d/f", cwd=place)
    assert told(watch.get_new_events()) == [("d/f", REMOVE), ("d/f", CREATE), ("d/f", WRITE)]
    box.commands.run("rm -r d; mkdir d; echo > d/f", cwd=place)
    events = told(watch.get_new_events())
    assert events[:2] == [("d/f", REMOVE), ("d", REMOVE)]
    assert events[2:] == [("d", CREATE), ("d/f", CREATE), ("d/f", WRITE)]
    watch.stop()


def test_a_directory_that_is_moved(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/in/old/sub/f", "x")
    watch = box.files.watch_dir(f"{place}/in", recursive=True)
    box.commands.run("mv in/old in/new; echo > in/new/sub/f", cwd=place)
    events = told(watch.get_new_events())
    assert events[:2] == [("old", RENAME), ("new", CREATE)]
    assert events[-1] == ("new/sub/f", WRITE)
    box.commands.run("mv in/new out; echo > out/sub/f", cwd=place)
    assert told(watch.get_new_events()) == [("new", RENAME)]
    box.commands.run("mv out in/back", cwd=place)
    assert ("back/sub/f", CREATE) in told(watch.get_new_events())
    watch.stop()


def test_entries(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place, include_entry=True)
    box.files.write(f"{place}/file", "12345", metadata={"k": "v"})
    for event in watch.get_new_events():
        assert event.entry is not None
        assert (event.entry.path, event.entry.size) == (f"{place}/file", 5)
        assert event.entry.metadata == {"k": "v"}
    box.files.remove(f"{place}/file")
    (event,) = watch.get_new_events()
    assert (event.type, event.entry) == (REMOVE, None)
    watch.stop()


def test_through_a_link(box: Sandbox, place: str) -> None:
    box.commands.run("mkdir real; ln -s real link", cwd=place)
    watch = box.files.watch_dir(f"{place}/link")
    box.commands.run("touch real/f", cwd=place)
    assert ("f", CREATE) in told(watch.get_new_events())
    watch.stop()


def test_what_cannot_be_watched(box: Sandbox, place: str) -> None:
    box.files.write(f"{place}/file", "x")
    with pytest.raises(InvalidArgumentException, match="is not a directory"):
        box.files.watch_dir(f"{place}/file")
    with pytest.raises(FileNotFoundException, match="does not exist"):
        box.files.watch_dir(f"{place}/nothing")


def test_a_watch_that_was_stopped(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place)
    watch.stop()
    with pytest.raises(Exception, match="stopped"):
        watch.get_new_events()


def test_a_directory_that_goes_away(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place, recursive=True)
    box.files.write(f"{place}/f", "x")
    box.files.remove(place)
    assert told(watch.get_new_events())[-1] == ("f", REMOVE)
    assert watch.get_new_events() == []
    watch.stop()


def test_very_many_events(box: Sandbox, place: str) -> None:
    watch = box.files.watch_dir(place, recursive=True)
    box.commands.run(
        "mkdir d; for n in $(seq 20000); do : > d/f$n; done; mkdir -p e/f; : > e/f/last", cwd=place
    )
    events = told(watch.get_new_events())
    assert len([name for name, kind in events if kind is CREATE and name.startswith("d/")]) == 20000
    assert ("e/f/last", CREATE) in events
    watch.stop()


async def test_streaming(service: Service, box: Sandbox, place: str) -> None:
    connected = await AsyncSandbox.connect(box.sandbox_id, **service.options)
    events: list[FilesystemEvent] = []
    ended: list[Exception | None] = []
    watch = await connected.files.watch_dir(
        place, on_event=events.append, on_exit=ended.append, recursive=True
    )
    started = time.monotonic()
    await connected.files.write(f"{place}/a/f", "x")
    while ("a/f", WRITE) not in told(events):
        assert time.monotonic() - started < 5
        await asyncio.sleep(0.005)
    assert told(events)[0] == ("a", CREATE)
    await watch.stop()  # type: ignore[no-untyped-call]
    count = len(events)
    await connected.files.write(f"{place}/a/f", "x")
    await asyncio.sleep(0.2)
    assert len(events) == count


async def test_a_stream_that_was_left_is_not_kept(
    service: Service, box: Sandbox, place: str
) -> None:
    connected = await AsyncSandbox.connect(box.sandbox_id, **service.options)
    count = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c inotify || true"
    for _ in range(30):
        watch = await connected.files.watch_dir(place, on_event=lambda _: None)
        await watch.stop()  # type: ignore[no-untyped-call]
    assert int((await connected.commands.run(count, user="root")).stdout) < 5


def test_too_many(service: Service) -> None:
    box = Sandbox.create(timeout=60, **service.options)
    try:
        assert "stop other watchers" in _refusal_of_watching(box, at_least=200)
        assert box.commands.run("echo fine").stdout == "fine\n"
    finally:
        box.kill()


def _refusal_of_watching(box: Sandbox, at_least: int) -> str:
    for number in range(1000):
        try:
            box.files.watch_dir("/home/user")
        except SandboxException as error:
            assert number >= at_least
            return str(error)
    pytest.skip("this machine lets one user have more than 1000 watchers")
