"""What a program with CrewAI's tools does; prints what it saw as JSON."""

import base64
import json
from importlib.metadata import version
from typing import Any

from crewai_tools import E2BExecTool, E2BFileTool, E2BPythonTool
from e2b import CommandExitException, NotFoundException, Sandbox, TimeoutException

PLOT = "import matplotlib.pyplot as plt; plt.bar(['a'], [1]); plt.show()"


def in_python() -> dict[str, Any]:
    tool = E2BPythonTool(persistent=True, envs={"WHERE": "Bergen"}, metadata={"of": "crew"})
    try:
        tool.run(code="import os; rain = {os.environ['WHERE']: 7}")
        kept = tool.run(code="print('read'); rain")
        failed = tool.run(code="rain['Rome']")
        plotted = tool.run(code=PLOT)["results"][0]
        return {
            "kept": (kept["text"], kept["stdout"], kept["execution_count"]),
            "failed": (failed["error"]["name"], "KeyError" in failed["error"]["traceback"]),
            "plotted": (plotted["png"][:8], plotted["is_main_result"]),
            "javascript": tool.run(code="6 * 7", language="javascript")["text"],
            "envs": tool.run(code="os.environ['DAY']", envs={"DAY": "Monday"})["text"],
            "slow": raised(TimeoutException, tool, code="import time; time.sleep(30)", timeout=1),
            "after": tool.run(code="rain")["text"],
        }
    finally:
        tool.close()


def in_shell(sandbox_id: str) -> dict[str, Any]:
    tool = E2BExecTool(sandbox_id=sandbox_id)
    done = tool.run(command="pwd; echo $DAY; echo err >&2", cwd="/tmp", envs={"DAY": "Monday"})
    return {
        "done": done,
        "failed": raised(CommandExitException, tool, command="exit 3"),
        "slow": raised(TimeoutException, tool, command="sleep 30", timeout=1),
    }


def with_files(sandbox_id: str) -> dict[str, Any]:
    tool = E2BFileTool(sandbox_id=sandbox_id)
    tool.run(action="mkdir", path="/tmp/a")
    tool.run(action="write", path="/tmp/a/b.txt", content="one\n")
    appended = tool.run(action="append", path="/tmp/a/b.txt", content="two\n")
    octets = base64.b64encode(b"\x00\xff").decode()
    tool.run(action="write", path="/tmp/a/c.bin", content=octets, binary=True)
    info = tool.run(action="info", path="/tmp/a/b.txt")
    seen = {
        "appended": appended["total_bytes"],
        "read": tool.run(action="read", path="/tmp/a/b.txt")["content"],
        "binary": tool.run(action="read", path="/tmp/a/c.bin", binary=True)["content"] == octets,
        "listed": [each["name"] for each in tool.run(action="list", path="/tmp/a")["entries"]],
        "info": (info["size"], info["owner"], info["permissions"], "T" in info["modified_time"]),
        "missing": raised(NotFoundException, tool, action="read", path="/tmp/none"),
    }
    tool.run(action="delete", path="/tmp/a/b.txt")
    return seen | {"exists": tool.run(action="exists", path="/tmp/a/b.txt")["exists"]}


def raised(kind: type[Exception], tool: Any, **arguments: Any) -> bool:
    try:
        tool.run(**arguments)
    except kind:
        return True
    return False


def main() -> None:
    seen: dict[str, Any] = {"python": in_python()}
    seen["alone"] = E2BPythonTool().run(code="1 + 1")["text"]
    with Sandbox.create() as sandbox:
        seen |= {"shell": in_shell(sandbox.sandbox_id), "files": with_files(sandbox.sandbox_id)}
        seen["running"] = sandbox.is_running()
    names = ("crewai-tools", "e2b-code-interpreter", "e2b")
    print(json.dumps(seen | {"versions": {name: version(name) for name in names}}))


main()
