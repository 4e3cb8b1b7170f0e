"""What a program with LangChain's Deep Agents does; prints what it saw as JSON."""

import asyncio
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import e2b
from deepagents import create_deep_agent
from e2b import Sandbox
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_e2b import AsyncE2BSandbox, E2BSandbox

CSV = "city,rain\nBergen,7\nOslo,3\n"
COUNT = "import csv; print(sum(int(row['rain']) for row in csv.DictReader(open('/tmp/rain.csv'))))"


class Scripted(GenericFakeChatModel):  # type: ignore[misc]
    """A model that has its answers ready; the backend is what is tried here."""

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Callable[..., Any]:
        return self


def calls(name: str, **arguments: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": name}])


def backend_alone(sandbox: Sandbox) -> dict[str, Any]:
    backend = E2BSandbox(sandbox=sandbox)
    done = backend.execute("echo out; echo err >&2")
    slow = backend.execute("sleep 30", timeout=1)
    up = backend.upload_files([("/tmp/a/b.bin", b"\x00\xff"), ("/tmp", b""), ("relative", b"")])
    down = backend.download_files(["/tmp/a/b.bin", "/tmp/none", "/tmp", "/root/secret"])
    backend.write("/tmp/notes.txt", "first\nsecond\n")
    edited = backend.edit("/tmp/notes.txt", "second", "third")
    return {
        "id": backend.id == sandbox.sandbox_id,
        "done": (done.exit_code, done.output),
        "failed": backend.execute("exit 3").exit_code,
        "slow": (slow.exit_code, slow.output),
        "large": len(backend.execute("head -c 3000000 /dev/zero | tr '\\0' x").output),
        "uploaded": [each.error for each in up],
        "downloaded": [(each.content or b"").hex() or each.error for each in down],
        "edited": (edited.error, edited.occurrences),
        "again": backend.write("/tmp/notes.txt", "over it").error is not None,
        "read": backend.read("/tmp/notes.txt").file_data["content"],
        "unread": backend.read("/tmp/none").error is not None,
        "listed": [each["path"] for each in backend.ls("/tmp/a").entries],
        "found": [each["path"] for each in backend.glob("*.txt", "/tmp").matches],
        "matched": [each["text"] for each in backend.grep("third", "/tmp").matches],
    }


def an_agent(sandbox: Sandbox) -> list[tuple[str, str]]:
    """What its tools told the model."""
    model = Scripted(
        messages=iter(
            [
                calls("write_file", file_path="/tmp/rain.csv", content=CSV),
                calls("execute", command=f'python3 -c "{COUNT}"'),
                calls("execute", command="python3 -c '1 / 0'"),
                calls("grep", pattern="Bergen", path="/tmp"),
                calls("read_file", file_path="/tmp/rain.csv"),
                AIMessage("It rains most in Bergen."),
            ]
        )
    )
    agent = create_deep_agent(model=model, backend=E2BSandbox(sandbox=sandbox))
    answer = agent.invoke({"messages": [{"role": "user", "content": "Where does it rain?"}]})
    told = [each for each in answer["messages"] if isinstance(each, ToolMessage)]
    return [(str(each.name), str(each.content)) for each in told]


async def in_async() -> dict[str, Any]:
    sandbox = await e2b.AsyncSandbox.create()
    try:
        backend = AsyncE2BSandbox(sandbox=sandbox)
        await backend.awrite("/tmp/rain.csv", CSV)
        counted = await backend.aexecute(f'python3 -c "{COUNT}"')
        slow = await backend.aexecute("sleep 30", timeout=1)
        [found] = (await backend.agrep("Oslo", "/tmp")).matches
        [missing] = await backend.adownload_files(["/tmp/none"])
        return {
            "counted": (counted.exit_code, counted.output),
            "slow": slow.exit_code,
            "found": (found["path"], found["line"]),
            "missing": missing.error,
        }
    finally:
        await sandbox.kill()


def again(sandbox_id: str) -> Any:
    """A later run of the program goes on in the sandbox, which has paused meanwhile."""
    return E2BSandbox(sandbox=Sandbox.connect(sandbox_id)).execute("cat /tmp/notes.txt").output


def main() -> None:
    sandbox = Sandbox.create(timeout=600)
    try:
        seen: dict[str, Any] = {"alone": backend_alone(sandbox), "agent": an_agent(sandbox)}
        sandbox.pause()
        seen["again"] = again(sandbox.sandbox_id)
    finally:
        sandbox.kill()
    gone = E2BSandbox(sandbox=sandbox).execute("true")
    seen |= {"gone": (gone.exit_code, gone.output), "async": asyncio.run(in_async())}
    seen["versions"] = {name: version(name) for name in ("langchain-e2b", "deepagents", "e2b")}
    print(json.dumps(seen))


main()
