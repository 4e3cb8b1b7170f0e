"""The worked examples, run as a user runs them: nothing is configured, the host starts itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.service import PREPARATION_DEADLINE, processes_of, shared_templates

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
CELL_SECONDS = 120
pytestmark = [
    pytest.mark.timeout(PREPARATION_DEADLINE + 240),
    pytest.mark.usefixtures("service"),  # which prepares the template that is shared
]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data directory of a user who has none yet."""
    for name in [name for name in os.environ if name.startswith(("E2B_", "CODE_INTERPRETER_"))]:
        if name != "CODE_INTERPRETER_RUNTIME":
            monkeypatch.delenv(name)
    parent = Path(tempfile.mkdtemp(prefix="ci-"))
    monkeypatch.setenv("CODE_INTERPRETER_DATA_DIR", str(parent / "data"))
    for name, value in shared_templates().items():
        monkeypatch.setenv(name, value)
    yield parent / "data"
    stop = [sys.executable, "-m", "code_interpreter.cli.main", "stop"]
    subprocess.run([*stop, "--data-dir", str(parent / "data")], check=True, timeout=60)
    left = processes_of(parent / "data")
    shutil.rmtree(parent)
    assert left == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook(path: Path, data: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        timeout=int(PREPARATION_DEADLINE),
        resources={"metadata": {"path": str(data.parent)}},
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2


def test_the_script(data: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(FOLDER / "seattle_weather.py"), str(tmp_path / "charts")],
        capture_output=True,
        text=True,
        timeout=PREPARATION_DEADLINE,
    )
    assert result.returncode == 0, result.stderr
    for name in ("rain.png", "warmth.png"):
        assert (tmp_path / "charts" / name).read_bytes().startswith(b"\x89PNG")
    for words in ("1461 days", "wettest month: Nov", "bar chart", "KeyError", "days with snow"):
        assert words in result.stdout
