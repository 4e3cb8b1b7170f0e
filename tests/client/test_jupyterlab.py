"""JupyterLab, in a browser, on the kernels of a real sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Error, Page, expect, sync_playwright

from code_interpreter import JupyterServer, Sandbox
from tests.service import Service

START_DEADLINE = 60.0
STEP_MS = 60_000
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]


@dataclass(frozen=True)
class Lab:
    """A running ``jupyter lab``."""

    url: str
    directory: Path


@pytest.fixture(scope="module")
def sandbox(service: Service) -> Iterator[Sandbox]:
    made = Sandbox.create(**service.options)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def lab(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("lab")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            _command(directory, sandbox.jupyter_server()),
            env={**os.environ, **_own_places(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Lab(_until_up(directory, process), directory)
    finally:
        process.terminate()
        process.wait(20)


def _command(directory: Path, server: JupyterServer) -> list[str]:
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        f"--gateway-url={server.url}",
        f"--GatewayClient.auth_token={server.token}",
        *("--ServerApp.port=0", f"--ServerApp.root_dir={directory}"),
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]


def _own_places(directory: Path) -> dict[str, str]:
    kinds = ("CONFIG", "DATA", "RUNTIME")
    places = {f"JUPYTER_{kind}_DIR": str(directory / "own" / kind.lower()) for kind in kinds}
    return {**places, "HOME": str(directory / "own")}


def _until_up(directory: Path, process: subprocess.Popen[bytes]) -> str:
    """Its URL with the token, from the file that it writes for other programs."""
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        for file in directory.glob("own/runtime/jpserver-*.json"):
            told = json.loads(file.read_text() or "{}")
            if told and _answers(told["url"]):
                return f"{told['url']}lab?token={told['token']}"
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(directory / 'log').read_text()[-4000:]}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}api").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 700})
        page.set_default_timeout(STEP_MS)
        expect.set_options(timeout=STEP_MS)
        yield page
        browser.close()


def test_the_agents_context_is_opened_and_a_cell_reads_its_variable(
    sandbox: Sandbox, lab: Lab, page: Page
) -> None:
    sandbox.run_code("import pandas\nmade_by_agent = pandas.DataFrame({'rain': [3, 1, 4]})")
    context = next(each for each in sandbox.list_code_contexts() if each.language == "python")

    _launch(page, lab, f"Python 3, running ({context.id[:8]})")
    _until_connected(page)
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    cell.locator(".cm-content").click()
    page.keyboard.type("print('the agent left', len(made_by_agent), 'rows')")
    page.keyboard.press("Shift+Enter")
    output = cell.locator(".jp-OutputArea-output").first
    expect(output).to_have_text("the agent left 3 rows")

    page.keyboard.type("made_by_agent['snow'] = 0; made_by_agent.plot.bar()")
    page.keyboard.press("Shift+Enter")
    picture = page.locator(".jp-OutputArea-output img").first
    picture.wait_for()
    picture.scroll_into_view_if_needed()
    page.screenshot(path=str(lab.directory / "jupyterlab.png"))
    assert sandbox.run_code("list(made_by_agent)").text == "['rain', 'snow']"


def _until_connected(page: Page) -> None:
    """JupyterLab forgets a cell that is run before it has reached the kernel."""
    toolbar = page.locator(".jp-NotebookPanel-toolbar")
    expect(toolbar.locator(".jp-KernelName")).to_have_text("Python 3")
    expect(toolbar.locator("[data-status]")).to_have_attribute("data-status", "idle")


def _launch(page: Page, lab: Lab, name: str) -> None:
    """As a person does who misses a kernel in the launcher: look again."""
    card = page.locator(".jp-LauncherCard[data-category=Notebook]").filter(has_text=name)
    for _ in range(4):
        page.goto(f"{lab.url}&reset")
        try:
            card.click(timeout=20_000)
        except Error:
            continue
        return
    raise AssertionError(f"{name!r} is not in the launcher: {page.inner_text('body')[:2000]}")


def test_leaving_it_leaves_the_context(sandbox: Sandbox, lab: Lab) -> None:
    sandbox.run_code("kept = 6")
    base, _, token = lab.url.partition("lab?token=")
    with httpx.Client(base_url=base, headers={"Authorization": f"token {token}"}) as client:
        (kernel,) = client.get("api/kernels").json()
        assert client.delete(f"api/kernels/{kernel['id']}", timeout=30).is_success
    assert sandbox.run_code("kept").text == "6"
