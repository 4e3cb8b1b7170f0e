"""A repository inside a sandbox, behind ``git daemon`` and behind smart HTTP with an account."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from e2b import Sandbox

DAEMON, HTTP = 19418, 18080
USER, PASSWORD = "robot", "s3cret-canary"
PLAIN = f"git://127.0.0.1:{DAEMON}/project.git"
OPEN = f"http://127.0.0.1:{HTTP}/open/project.git"
CLOSED = f"http://127.0.0.1:{HTTP}/closed/project.git"
SLOW = f"http://127.0.0.1:{HTTP}/slow/project.git"
"""As `CLOSED`; each answer takes its time, so that a command can be looked at meanwhile."""
SERVER = Path(__file__).with_name("git_server.py")
LOOKOUT = Path(__file__).with_name("git_lookout.py")
_SEED = """
set -e
git config --global init.defaultBranch main
git init -q --bare repos/project.git
git -C repos/project.git config http.receivepack true
git clone -q repos/project.git seed 2>/dev/null
cd seed
git config user.name Seed && git config user.email seed@example.org
for n in 1 2 3; do echo "$n" > "file$n.txt"; git add . ; git commit -q -m "commit $n"; done
git push -q origin HEAD:main
git checkout -q -b side && echo side > side.txt && git add . && git commit -q -m side
git push -q origin side
cd .. && rm -rf seed
"""
_WAIT = "for n in $(seq 100); do {probe} && exit 0; sleep 0.1; done; exit 1"


def serve_repository(sandbox: Sandbox) -> None:
    """Make it, and serve it for as long as the sandbox runs."""
    sandbox.commands.run(_SEED)
    sandbox.files.write("git_server.py", SERVER.read_text())
    sandbox.commands.run(
        f"git daemon --reuseaddr --export-all --enable=receive-pack --listen=127.0.0.1 "
        f"--port={DAEMON} --base-path=/home/user/repos /home/user/repos",
        background=True,
        timeout=0,
    )
    sandbox.commands.run(
        f"python3 git_server.py {HTTP} /home/user/repos",
        background=True,
        timeout=0,
        envs={"ACCOUNT": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()},
    )
    for url in (PLAIN, OPEN):
        sandbox.commands.run(_WAIT.format(probe=f"git ls-remote -q {url} >/dev/null 2>&1"))
    sandbox.git.configure_user("Tester", "tester@example.org")


class Lookout:
    """Looks, as root of the sandbox, for the password in arguments and files until `told`."""

    def __init__(self, sandbox: Sandbox, place: str) -> None:
        sandbox.files.write("/tmp/git_lookout.py", LOOKOUT.read_text())
        envs = {"CANARY": PASSWORD}
        self._process = sandbox.commands.run(
            f"python3 /tmp/git_lookout.py {place}",
            background=True,
            user="root",
            envs=envs,
            stdin=True,
        )
        self._sandbox = sandbox

    def told(self) -> list[str]:
        """What it has seen: ``arguments``, or a file's name."""
        self._sandbox.commands.send_stdin(self._process.pid, "enough\n")
        return [str(each) for each in json.loads(self._process.wait().stdout)]
