"""Looks for a word in every process's arguments and in files; runs inside a sandbox.

``CANARY=word python3 git_lookout.py DIRECTORY`` looks below DIRECTORY and at git's files in
the home directory until a line comes on stdin; prints what it has seen as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from pathlib import Path

FILES = (".git/config", "*/.git/config", ".git/FETCH_HEAD", ".git/logs/HEAD")
HOME = (".git-credentials", ".gitconfig", ".bash_history")


def contains(path: Path, word: bytes) -> bool:
    with contextlib.suppress(OSError):
        return word in path.read_bytes()
    return False


def main() -> None:
    word, seen = os.environb[b"CANARY"], set()
    while not select.select([sys.stdin], [], [], 0.003)[0]:
        if any(contains(path, word) for path in Path("/proc").glob("[0-9]*/cmdline")):
            seen.add("arguments")
        files = [Path("/home/user", name) for name in HOME]
        files += [path for each in FILES for path in Path(sys.argv[1]).glob(each)]
        seen.update(str(path) for path in files if contains(path, word))
    print(json.dumps(sorted(seen)))


if __name__ == "__main__":
    main()
