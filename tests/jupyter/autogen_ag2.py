"""What a program with AG2 (``autogen`` up to 0.14) does; prints what it saw as JSON."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from autogen.coding import CodeBlock
from autogen.coding.jupyter import JupyterCodeExecutor, JupyterConnectionInfo

host = os.environ["JUPYTER_URL"].removeprefix("http://")
server = JupyterConnectionInfo(host, use_https=False, token=os.environ["JUPYTER_TOKEN"])
name = f"live-{os.environ['CONTEXT_ID']}"
with JupyterCodeExecutor(server, kernel_name=name, output_dir=tempfile.mkdtemp()) as executor:

    def run(code: str) -> Any:
        return executor.execute_code_blocks([CodeBlock(code=code, language="python")])

    value = run("made_by_agent + 1")
    failed = run("1 / 0")
    plotted = run("import matplotlib.pyplot as p; p.plot([1]); p.show()")
seen = {
    "value": (value.exit_code, value.output.strip()),
    "failed": (failed.exit_code, "ZeroDivisionError" in failed.output),
    "plotted": (plotted.output.splitlines()[1:-1], plotted.output_files),
    "picture": Path(plotted.output_files[0]).read_bytes()[:4].hex(),
}
print(json.dumps(seen))
