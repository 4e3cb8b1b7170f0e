"""What a program with LlamaIndex's server package does; prints what it saw as JSON."""

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llama_index.server.tools.interpreter import E2BCodeInterpreter

PLOT = "import matplotlib.pyplot as plt; plt.bar(['a'], [1]); plt.show()"


def seen_in(folder: Path) -> dict[str, Any]:
    (folder / "rain.csv").write_text("city,days\nBergen,7\n")
    interpreter = E2BCodeInterpreter(
        os.environ["E2B_API_KEY"], output_dir=str(folder), uploaded_files_dir=str(folder)
    )
    tool = interpreter.to_tool()
    read = tool(code="text = open('rain.csv').read(); print(text)", sandbox_files=["rain.csv"])
    kept = tool(code="text.count('Bergen')")
    plotted = tool(code=PLOT).raw_output
    failed = tool(code="text['Bergen']")
    return {
        "name": tool.metadata.name,
        "read": read.raw_output.logs.stdout,
        "kept": [(each.type, each.content) for each in kept.raw_output.results],
        "plotted": sorted(each.type for each in plotted.results),
        "pictures": [path.read_bytes()[:4].hex() for path in folder.glob("**/*.png")],
        "failed": (failed.raw_output.is_error, "TypeError" in failed.raw_output.error_message),
        "ended": interpreter.interpreter is None,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen = seen_in(Path(folder))
    names = ("llama-index-server", "e2b-code-interpreter", "e2b")
    print(json.dumps(seen | {"versions": {name: version(name) for name in names}}))


main()
