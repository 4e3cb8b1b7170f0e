"""Time-outs of commands, through E2B's Python client."""

from __future__ import annotations

import pytest
from e2b import Sandbox, TimeoutException

from tests.envd.alive import wait_until_dead


def test_the_time_out_kills_it(box: Sandbox) -> None:
    with pytest.raises(TimeoutException):
        box.commands.run("echo $$ > timed-out; exec sleep 100", timeout=1)
    wait_until_dead(box, int(box.files.read("timed-out")))


def test_the_time_out_counts_for_a_flood_too(box: Sandbox) -> None:
    with pytest.raises(TimeoutException):
        box.commands.run("echo $$ > flood; exec yes", timeout=1, on_stdout=lambda _: None)
    wait_until_dead(box, int(box.files.read("flood")))


def test_the_time_out_counts_for_who_left(box: Sandbox) -> None:
    handle = box.commands.run("exec sleep 100", background=True, timeout=1)
    handle.disconnect()
    wait_until_dead(box, handle.pid)


def test_no_time_out(box: Sandbox) -> None:
    assert box.commands.run("sleep 1.2; echo done", timeout=0).stdout == "done\n"
