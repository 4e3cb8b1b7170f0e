"""AutoGen's executors that use a Jupyter server, of both projects that go by that name.

They want half a minute and 300 MB of packages that nothing else here needs, so they are run
by their own command: ``pytest -m slow tests/jupyter``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from code_interpreter import Sandbox
from tests import pypi

FOLDER = Path(__file__).parent
RUN_SECONDS = 120


@pytest.mark.slow
@pytest.mark.timeout(pypi.INSTALL_SECONDS + RUN_SECONDS)
@pytest.mark.parametrize(
    ("script", "packages"),
    [
        ("autogen_microsoft.py", ("autogen-ext[docker-jupyter-executor]==0.7.5",)),
        ("autogen_ag2.py", ("ag2==0.14.0", "requests", "websocket-client", "docker")),
    ],
)
def test_it_goes_on_in_the_agents_context(
    sandbox: Sandbox, context_id: str, script: str, packages: tuple[str, ...]
) -> None:
    server = sandbox.jupyter_server()
    told = {"JUPYTER_URL": server.url, "JUPYTER_TOKEN": server.token, "CONTEXT_ID": context_id}
    done = subprocess.run(
        [str(pypi.python_with(*packages)), str(FOLDER / script)],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["value"] == [0, "42"]
    assert seen["failed"] == [1, True]
    lines, files = seen["plotted"]
    assert len(files) == 1
    assert all(files[0] in line for line in lines), "a picture, and no data that it cannot show"
    assert seen["picture"] == b"\x89PNG".hex()
    assert sandbox.run_code("made_by_agent").text == "41", "what it 'deletes' is the agent's"
