"""What a program with agno's E2BTools does; prints what it saw as JSON."""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agno.agent import Agent
from agno.models.base import Model
from agno.models.response import ModelResponse
from agno.tools.e2b import E2BTools
from e2b import Sandbox


class Scripted(Model):  # type: ignore[misc]
    """A model that has its calls ready; the tools are what is tried here."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        super().__init__(id="scripted")
        self.calls = list(calls)

    def invoke(self, *_: Any, **__: Any) -> ModelResponse:
        if not self.calls:
            return ModelResponse(role="assistant", content="In Bergen.")
        name, arguments = self.calls.pop(0)
        called = {"name": name, "arguments": json.dumps(arguments)}
        made = {"id": f"call-{len(self.calls)}", "type": "function", "function": called}
        return ModelResponse(role="assistant", tool_calls=[made])

    def ainvoke(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    invoke_stream = ainvoke_stream = ainvoke
    _parse_provider_response = _parse_provider_response_delta = ainvoke


def an_agent(tools: E2BTools) -> dict[str, Any]:
    model = Scripted(
        ("run_python_code", {"code": "rain = {'Bergen': 7, 'Oslo': 3}\nmax(rain, key=rain.get)"}),
        ("run_python_code", {"code": "rain['Rome']"}),
        ("run_command", {"command": "echo out; echo err >&2"}),
    )
    done = Agent(model=model, tools=[tools]).run("Where does it rain most?")
    told = [str(each.content) for each in done.messages if each.role == "tool"]
    return {"answer": done.content, "told": told}


def by_hand(tools: E2BTools, folder: Path) -> dict[str, Any]:
    agent = Agent()
    tools.run_python_code("import matplotlib.pyplot as plt; plt.bar(['a'], [1]); plt.show()")
    picture = tools.download_png_result(agent, output_path=str(folder / "rain.png"))
    chart = tools.download_chart_data(agent, output_path=str(folder / "rain.json"))
    (folder / "rain.csv").write_text("city,days\n")
    background = tools.run_background_command("sleep 600")
    return {
        "picture": ((folder / "rain.png").read_bytes()[:4].hex(), len(picture.images)),
        "chart": chart.content,
        "uploaded": tools.upload_file(str(folder / "rain.csv"), "/tmp/rain.csv"),
        "read": tools.read_file_content("/tmp/rain.csv"),
        "missing": tools.read_file_content("/tmp/none"),
        "written": tools.write_file_content("/tmp/a/b.txt", "seven"),
        "listed": tools.list_files("/tmp/a"),
        "failed": tools.run_command("exit 3"),
        "streamed": tools.stream_command("echo out; echo err >&2"),
        "killed": tools.kill_background_command(background),
        "url": tools.get_public_url(3000),
        "server": tools.run_server("python3 -m http.server 3000", 3000),
        "timeout": tools.set_sandbox_timeout(600),
        "status": tools.get_sandbox_status(),
        "running": tools.list_running_sandboxes(),
        "watched": tools.watch_directory("/tmp", 1),
        "downloaded": tools.download_file_from_sandbox("/tmp/rain.csv", str(folder / "again")),
    }


def main() -> None:
    tools = E2BTools(timeout=600)
    try:
        with tempfile.TemporaryDirectory() as folder:
            seen = an_agent(tools) | by_hand(tools, Path(folder))
    finally:
        ended = json.loads(tools.shutdown_sandbox())
    seen["ended"] = (ended["content"], tools.sandbox.is_running())
    other = E2BTools(sandbox_options={"envs": {"WHERE": "Oslo"}})
    try:
        seen["options"] = other.run_command("echo $WHERE")
        seen["again"] = Sandbox.connect(other.sandbox.sandbox_id).commands.run("echo $WHERE").stdout
    finally:
        other.shutdown_sandbox()
    names = ("agno", "e2b-code-interpreter", "e2b")
    print(json.dumps(seen | {"versions": {name: version(name) for name in names}}))


main()
