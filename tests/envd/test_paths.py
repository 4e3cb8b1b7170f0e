"""Paths, against a model: whatever clients write, the same file is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from code_interpreter.envd.codecs import DEEPEST, is_too_deep
from code_interpreter.envd.paths import BadPath, resolve
from code_interpreter.envd.text import printable
from code_interpreter.guest.users import User

USER = User("user", 1000, 1000, (1000,), Path("/home/user"), "/bin/bash")
NAMES = st.sampled_from(
    ["", ".", "..", "~", "a", "b.txt", "...", " ", "é", "e\u0301", "%2e%2e", "\\"]
)
NAME = NAMES | st.text(max_size=8)
PATHS = st.lists(NAME, max_size=12).map("/".join)


def model(path: str) -> list[str]:
    """The names from the root to the file."""
    names = [] if path.startswith("/") else ["home", "user"]
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in ("", "."):
            names.append(name)
    return names


@settings(max_examples=1000, deadline=None)
@given(st.lists(PATHS, min_size=10, max_size=10))
@example(["//etc/passwd", "///etc", "/../../..", "~user", "a/~/b", "~", "", "/"])
def test_what_a_path_means(paths: list[str]) -> None:
    for path in paths:
        check(path)


def check(path: str) -> None:
    try:
        resolved = resolve(path, USER)
    except BadPath:
        assert "\0" in path or any(0xD800 <= ord(letter) < 0xE000 for letter in path)
        return
    assert resolved == "/" + "/".join(model(path))
    assert resolve(resolved, USER) == resolved


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a\0b", "NUL"),
        ("\ud800", "valid Unicode"),
        ("x" * 256, "at most 255 bytes, this one 256"),
        ("é" * 128, "at most 255 bytes, this one 256"),
        ("/a" * 2048, "at most 4095 bytes, this one 4096"),
        ("a/" * 2045, "at most 4095 bytes"),
    ],
)
def test_what_cannot_be_a_path(path: str, words: str) -> None:
    with pytest.raises(BadPath, match=words):
        resolve(path, USER)


@pytest.mark.parametrize("path", ["x" * 255, "é" * 127, "/a" * 2047])
def test_as_long_as_it_may_be(path: str) -> None:
    assert resolve(path, USER).endswith(path)


@given(st.binary(max_size=40))
def test_any_file_name_can_be_shown(name: bytes) -> None:
    printable(name.decode(errors="surrogateescape")).encode()


@given(st.text(max_size=30), st.integers(0, 3 * DEEPEST))
def test_levels_of_json(text: str, depth: int) -> None:
    inside = json.dumps({"text": text + '["{\\"' * DEEPEST})
    message = "[" * depth + inside + "]" * depth
    assert is_too_deep(message.encode()) == (depth + 1 > DEEPEST)
