"""smolagents: an agent on E2B's client, and its executors that speak Jupyter's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from smolagents import AgentLogger, ChatMessage, CodeAgent, LogLevel, MessageRole, Model
from smolagents.remote_executors import DockerExecutor, E2BExecutor, _create_kernel_http
from smolagents.utils import AgentError

from code_interpreter import JupyterServer, Sandbox
from tests.service import Service

QUIET = AgentLogger(LogLevel.OFF)
CITIES = """
import statistics
rain = {'Bergen': 7, 'Oslo': 3}
print('mean', statistics.mean(rain.values()))
"""


class Scripted(Model):  # type: ignore[misc]
    """A model that has its answers ready; the executor is what is tried here."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self._answers = list(answers)

    def generate(self, messages: list[ChatMessage], *_: Any, **__: Any) -> ChatMessage:
        text = f"Thought: go on.\n<code>\n{self._answers.pop(0)}\n</code>"
        return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def test_an_agent_computes_in_a_sandbox(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing told but E2B's variables."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    model = Scripted(CITIES, "final_answer({'most': max(rain, key=rain.get), 'year': year})")
    with CodeAgent(
        tools=[], model=model, executor_type="e2b", verbosity_level=LogLevel.OFF
    ) as agent:
        answer = agent.run("Where does it rain most?", additional_args={"year": 2026})
        assert answer == {"most": "Bergen", "year": 2026}
        told = [str(step.get("observations")) for step in agent.memory.get_full_steps()]
        assert "mean 5" in "".join(told)
        executor = agent.python_executor
        assert isinstance(executor, E2BExecutor)
        picture = executor("import matplotlib.pyplot as p; p.plot([1, 2]); p.gcf()").output
        assert picture.format == "PNG"
        with pytest.raises(AgentError, match="ZeroDivisionError"):
            executor("1 / 0")


class AttachedExecutor(DockerExecutor):  # type: ignore[misc]
    """As `DockerExecutor` goes on once its container runs, on the server of a sandbox."""

    def __init__(self, server: JupyterServer) -> None:
        self.logger, self.allow_pickle, self.base_url = QUIET, False, server.url
        self._wait_for_server(server.token)
        kernels = f"{server.url}/api/kernels"
        self.kernel_id = _create_kernel_http(f"{kernels}?token={server.token}", self.logger)
        socket = kernels.replace("http", "ws", 1)
        self.ws_url = f"{socket}/{self.kernel_id}/channels?token={server.token}"


@pytest.fixture
def executor(sandbox: Sandbox) -> Iterator[AttachedExecutor]:
    made = AttachedExecutor(sandbox.jupyter_server())
    yield made
    context = next(each for each in sandbox.list_code_contexts() if each.id == made.kernel_id)
    sandbox.remove_code_context(context)


def test_its_docker_executor_attaches(sandbox: Sandbox, executor: AttachedExecutor) -> None:
    executor.send_variables({"year": 2026})
    done = executor("print('in', year)\nyear + 1")
    assert (done.logs, done.output, done.is_final_answer) == ("in 2026\n", "2027", False)
    with pytest.raises(AgentError, match="ZeroDivisionError"):
        executor("1 / 0")  # it hangs up here, before the cell has ended
    assert executor("year").output == "2026"
    context = next(each for each in sandbox.list_code_contexts() if each.id == executor.kernel_id)
    assert sandbox.run_code("year", context=context, timeout=20).text == "2026"
