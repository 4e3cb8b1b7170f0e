"""What a sandbox is made of: each program and package that ``template/`` lists is there."""

from __future__ import annotations

import json
import re

import pytest
from e2b import Sandbox

from code_interpreter.host.facts_other import programs
from code_interpreter.host.templates import resources

LISTED = [name for names in programs().values() for name in names]
ASK_FOR_NOTHING = {
    "seq": "seq 1",
    "tmux": "tmux -V",
    "openssl": "openssl version",
    "ssh": "ssh -V",
    "scp": "scp -S true x: . || true",
    "ssh-keygen": "ssh-keygen -q -t ed25519 -N '' -f /tmp/key",
    "killall": "killall -l",
    "script": "script -qc true /dev/null",
    "unzip": "unzip -v",
    "xxd": "xxd -v",
    "lsof": "lsof -v",
    "ip": "ip -V",
    "ss": "ss -V",
    "bzip2": "bzip2 --help",
    "nano": "nano --version",
    "update-ca-certificates": "update-ca-certificates --help",
}
"""Of programs that do not know ``--version``."""


def test_every_program_runs(box: Sandbox) -> None:
    lines = [f"{{ {ASK_FOR_NOTHING.get(name, name + ' --version')}; }}" for name in LISTED]
    each = "\n".join(
        f"{line} </dev/null >/tmp/said 2>&1 || echo {name} $? $(head -c 200 /tmp/said)"
        for name, line in zip(LISTED, lines, strict=True)
    )
    assert box.commands.run(each, timeout=60).stdout == ""


def test_every_python_package_is_there(box: Sandbox) -> None:
    lines = (resources("template") / "python-packages.txt").read_text().splitlines()
    names = [re.split(r"[<>=\[]", line)[0] for line in lines if line and line[0] != "#"]
    box.files.write(
        "/tmp/ask.py",
        "import json, sys\nfrom importlib.metadata import distribution\n"
        "print(json.dumps([distribution(n).metadata['Name'] for n in json.load(sys.stdin)]))",
    )
    box.files.write("/tmp/names.json", json.dumps(names))
    said = json.loads(box.commands.run("python3 /tmp/ask.py < /tmp/names.json").stdout)
    assert len(said) == len(names)


@pytest.mark.parametrize(
    "command",
    [
        "python3 -c 'import numpy, pandas, matplotlib.pyplot, sklearn, cv2, duckdb, skimage, yaml'",
        "pip --version",
        "node -e 'console.log([1, 2].map((each) => each * 2).join())'",
        "cd /tmp && npm init -y && npm pkg get name",
        "cd /tmp && printf 'int main() { return 0; }' > a.c && gcc -o a a.c && ./a",
        "cd /tmp && git init -q r && cd r && git config user.name a && git config user.email a@b"
        " && git commit -q --allow-empty -m x",
        "sqlite3 :memory: 'select 6 * 7'",
        "echo '{\"a\": [1, 2]}' | jq -c '.a | add'",
        "cd /tmp && echo needle > hay && rg -l needle hay && zip -q z.zip hay && unzip -l z.zip",
        "curl -sS file:///etc/hostname && wget --version",
        "sudo id -u && sudo -u user id -un",
        "mkdir /tmp/added && cd /tmp/added && echo 'answer = 42' > added.py"
        ' && echo \'import setuptools; setuptools.setup(name="added", py_modules=["added"])\''
        " > setup.py && pip install -q --no-index --no-build-isolation . && cd /"
        " && python3 -c 'import added; assert added.answer == 42' && pip uninstall -q -y added"
        " && cd /tmp/added && sudo pip install -q --no-index --no-build-isolation .",
    ],
)
def test_what_agents_do(box: Sandbox, command: str) -> None:
    assert box.commands.run(command, timeout=60).exit_code == 0
