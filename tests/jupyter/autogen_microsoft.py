"""What a program with AutoGen (``autogen-ext``) does; prints what it saw as JSON."""

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_ext.code_executors.docker_jupyter import DockerJupyterCodeExecutor
from autogen_ext.code_executors.docker_jupyter._jupyter_server import JupyterConnectionInfo


async def main() -> None:
    host = os.environ["JUPYTER_URL"].removeprefix("http://")
    server = JupyterConnectionInfo(host, use_https=False, token=os.environ["JUPYTER_TOKEN"])
    name = f"live-{os.environ['CONTEXT_ID']}"
    pictures = Path(tempfile.mkdtemp())
    async with DockerJupyterCodeExecutor(server, kernel_name=name, output_dir=pictures) as executor:

        async def run(code: str) -> Any:
            block = CodeBlock(code=code, language="python")
            return await executor.execute_code_blocks([block], CancellationToken())

        value = await run("made_by_agent + 1")
        failed = await run("1 / 0")
        plotted = await run("import matplotlib.pyplot as p; p.plot([1]); p.show()")
        seen = {
            "value": (value.exit_code, value.output),
            "failed": (failed.exit_code, "ZeroDivisionError" in failed.output),
            "plotted": (plotted.output.splitlines()[1:], [str(p) for p in plotted.output_files]),
            "picture": plotted.output_files[0].read_bytes()[:4].hex(),
        }
    print(json.dumps(seen))


asyncio.run(main())
