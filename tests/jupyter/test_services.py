"""The npm package that VS Code's Jupyter extension and JupyterLab are built on, on Node."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from code_interpreter import Sandbox
from tests import npm

SCRIPT = Path(__file__).parent / "services.mjs"
PACKAGES = ("@jupyterlab/services@^7.5.0", "ws@^8")
pytestmark = [pytest.mark.npm, pytest.mark.timeout(npm.INSTALL_SECONDS + 60)]


def test_all_that_vs_code_asks_for(sandbox: Sandbox, context_id: str) -> None:
    server = sandbox.jupyter_server()
    told = {"JUPYTER_URL": server.url, "JUPYTER_TOKEN": server.token, "CONTEXT_ID": context_id}
    printed = npm.installed(*PACKAGES).run(SCRIPT, {**os.environ, **told})
    seen = json.loads(printed.splitlines()[-1])

    assert seen["probes"] == {"hub/api": 403, "tree?": 403, "login?": 200}
    assert {"python3", "bash", f"live-{context_id}"} <= set(seen["specs"])
    assert context_id in seen["running"]
    assert seen["live"] == ["ok", "42"]
    assert seen["stillThere"] == [False, "ok", "42"]
    assert seen["input"] == ["ok", "typed\n"]
    assert seen["interrupted"] == ["error", "begun\n", "KeyboardInterrupt"]
    assert seen["completion"]["matches"] == ["kept"]
    assert seen["restarted"] == ["ok", "False"]
    assert (seen["sameSession"], seen["path"]) == (True, "b-1.ipynb")
    assert seen["changed"] == ["ok", "42\n"]
    assert (seen["oldKernelRuns"], seen["left"]) == (False, [])
    assert seen["missing"][0] == 404
    assert "kernels, kernelspecs, sessions only" in seen["missing"][1]
    assert sandbox.run_code("made_by_human").text == "42", "it was the agent's own kernel"
