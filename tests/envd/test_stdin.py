"""Input for commands, through E2B's Python client."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from e2b import Sandbox, SandboxException


def test_input_and_its_end(box: Sandbox) -> None:
    handle = box.commands.run("cat", background=True, stdin=True)
    box.commands.send_stdin(handle.pid, "hello ")
    handle.send_stdin("wörld\n")
    handle.close_stdin()
    assert handle.wait().stdout == "hello wörld\n"


def test_no_input(box: Sandbox) -> None:
    assert box.commands.run("cat; readlink /proc/self/fd/0").stdout == "/dev/null\n"


def test_much_input(box: Sandbox) -> None:
    handle = box.commands.run("wc -c", background=True, stdin=True, timeout=0)
    for _ in range(5):
        handle.send_stdin("x" * 2_000_000)
    handle.close_stdin()
    assert handle.wait().stdout == "10000000\n"


def test_input_from_two_sides_is_not_mixed(box: Sandbox) -> None:
    handle = box.commands.run("sleep 0.5; cat | tr -s ab | wc -c", background=True, stdin=True)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(handle.send_stdin, letter * 300_000) for letter in "ab"]:
            done.result()
    handle.close_stdin()
    assert handle.wait().stdout == "2\n"


def test_input_after_the_end(box: Sandbox) -> None:
    handle = box.commands.run("exec <&-; sleep 3", background=True, stdin=True)
    time.sleep(0.3)
    with pytest.raises(SandboxException, match="does not read its stdin"):
        handle.send_stdin("x")
    handle.close_stdin()
    with pytest.raises(SandboxException, match="stdin is closed"):
        handle.send_stdin("x")
    handle.kill()


def test_input_that_was_not_asked_for(box: Sandbox) -> None:
    handle = box.commands.run("sleep 100", background=True)
    with pytest.raises(SandboxException, match="without stdin"):
        handle.send_stdin("x")
    handle.kill()
