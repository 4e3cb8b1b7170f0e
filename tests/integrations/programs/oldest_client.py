"""What frameworks do that stay with E2B's first clients; prints what it saw as JSON."""

import json
import os
from importlib.metadata import version

from e2b_code_interpreter import Sandbox  # type: ignore[import-untyped]

PLOT = "import matplotlib.pyplot as plt; plt.bar(['a'], [1]); plt.show()"

sandbox = Sandbox(api_key=os.environ["E2B_API_KEY"])
try:
    sandbox.run_code("rain = {'Bergen': 7}")
    plotted = sandbox.run_code(PLOT).results[0]
    sandbox.files.write("/tmp/rain.bin", b"seven\n")
    seen = {
        "kept": sandbox.run_code("rain['Bergen']").text,
        "formats": list(plotted.formats()),
        "picture": plotted["png"][:8],
        "failed": sandbox.run_code("rain['Rome']").error.name,
        "bash": sandbox.run_code("echo told", language="bash").logs.stdout,
        "command": sandbox.commands.run("echo out").stdout,
        "read": sandbox.files.read("/tmp/rain.bin"),
        "again": Sandbox.connect(sandbox.sandbox_id).run_code("rain['Bergen']").text,
        "host": sandbox.get_host(3000),
        "running": sandbox.is_running(),
    }
finally:
    sandbox.kill()
names = ("e2b-code-interpreter", "e2b")
print(json.dumps(seen | {"versions": {name: version(name) for name in names}}))
