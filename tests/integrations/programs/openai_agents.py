"""What a program with OpenAI's Agents SDK does; prints what it saw as JSON."""

import asyncio
import io
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents import ModelResponse, RunConfig, Runner, Usage, set_tracing_disabled
from agents.extensions.sandbox.e2b import E2BSandboxClient, E2BSandboxClientOptions
from agents.models.interface import Model
from agents.sandbox import LocalSnapshotSpec, Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.entries import Dir, File
from agents.sandbox.errors import SandboxError
from e2b import AsyncSandbox
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

MANIFEST = Manifest(
    entries={"rain.csv": File(content=b"city,days\nBergen,7\nOslo,3\n"), "out": Dir()}
)


class Scripted(Model):  # type: ignore[misc]
    """A model that has its calls ready; the sandbox is what is tried here."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self.calls = list(calls)
        self.heard: Any = None

    async def get_response(self, *_: Any, **told: Any) -> ModelResponse:
        self.heard = told["input"]
        made = call(*self.calls.pop(0)) if self.calls else message("In Bergen.")
        return ModelResponse(output=[made], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def call(name: str, arguments: dict[str, Any]) -> ResponseFunctionToolCall:
    told = json.dumps(arguments)
    return ResponseFunctionToolCall(
        type="function_call", name=name, arguments=told, call_id=f"{name}-{hash(told)}"
    )


def message(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id="m", type="message", role="assistant", status="completed", content=[part]
    )


async def an_agent(kind: str) -> dict[str, Any]:
    """What the tools of an agent told its model."""
    model = Scripted(
        ("exec_command", {"cmd": "sort -t, -k2 -n rain.csv | tail -n 1 | tee out/most"}),
        ("exec_command", {"cmd": "echo why >&2; exit 3"}),
        ("exec_command", {"cmd": "cat", "tty": True, "yield_time_ms": 500}),
    )
    agent = SandboxAgent(name="Rain", model=model, default_manifest=MANIFEST)
    options = E2BSandboxClientOptions(sandbox_type=kind)
    run_config = RunConfig(sandbox=SandboxRunConfig(client=E2BSandboxClient(), options=options))
    done = await Runner.run(agent, "Where does it rain most?", run_config=run_config)
    told = [each["output"] for each in model.heard if each.get("type") == "function_call_output"]
    return {"answer": done.final_output, "told": told}


async def a_session(folder: Path) -> dict[str, Any]:
    """Everything that a session offers; it goes on after a pause, and from a saved workspace."""
    client = E2BSandboxClient()
    options = E2BSandboxClientOptions(
        sandbox_type="e2b_code_interpreter",
        timeout=600,
        envs={"WHERE": "Bergen"},
        exposed_ports=(3000,),
        pause_on_exit=True,
    )
    made = await client.create(
        manifest=MANIFEST, options=options, snapshot=LocalSnapshotSpec(base_path=folder)
    )
    async with made as session:
        done = await session.exec("echo $WHERE; pwd; cat rain.csv | wc -l")
        failed = await session.exec("echo why >&2; exit 3")
        await session.write(Path("out/b.bin"), io.BytesIO(b"\x00\xff"))
        endpoint = await session.resolve_exposed_port(3000)
        seen: dict[str, Any] = {
            "done": (done.exit_code, done.stdout.decode()),
            "failed": (failed.exit_code, failed.stderr.decode()),
            "slow": await raised(session.exec("sleep 30", timeout=1)),
            "root": (await session.exec("id -un", user="root")).stdout.decode(),
            "read": (await session.read(Path("out/b.bin"))).read().hex(),
            "missing": await raised(session.read(Path("none"))),
            "listed": sorted(Path(each.path).name for each in await session.ls(".")),
            "url": endpoint.url_for("http"),
            "terminal": await a_terminal(session),
            "running": await session.running(),
        }
        state = client.serialize_session_state(session.state)
    resumed = await client.resume(client.deserialize_session_state(state))
    async with resumed as session:
        seen["resumed"] = (await session.exec("wc -c < out/b.bin")).stdout.decode()
        seen["same"] = session.state.sandbox_id == state["sandbox_id"]
    await AsyncSandbox.kill(state["sandbox_id"])
    anew = await client.resume(client.deserialize_session_state(state))
    anew.state.pause_on_exit = False
    async with anew as session:
        seen["restored"] = (await session.exec("wc -c < out/b.bin")).stdout.decode()
        seen["other"] = session.state.sandbox_id != state["sandbox_id"]
    return seen


async def a_terminal(session: Any) -> list[Any]:
    """A program on a terminal that is typed to."""
    begun = await session.pty_exec_start("head -n 1", tty=True, yield_time_s=1)
    typed = await session.pty_write_stdin(session_id=begun.process_id, chars="typed\n")
    await session.pty_terminate_all()
    return [begun.exit_code, "typed" in typed.output.decode()]


async def raised(waiting: Any) -> str | None:
    try:
        await waiting
    except SandboxError as error:
        return type(error).__name__
    return None


async def main() -> None:
    set_tracing_disabled(True)
    seen = {kind: await an_agent(kind) for kind in ("e2b", "e2b_code_interpreter")}
    with tempfile.TemporaryDirectory() as folder:
        seen["session"] = await a_session(Path(folder))
    names = ("openai-agents", "e2b", "e2b-code-interpreter")
    print(json.dumps(seen | {"versions": {name: version(name) for name in names}}))


asyncio.run(main())
