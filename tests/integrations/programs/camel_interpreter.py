"""What a program with CAMEL's E2BInterpreter does; prints what it saw as JSON."""

import json
from importlib.metadata import version

from camel.interpreters import E2BInterpreter

interpreter = E2BInterpreter(require_confirm=False)
seen = {
    "value": interpreter.run("rain = {'Bergen': 7}\nrain['Bergen']"),
    "printed": interpreter.run("print(sum(rain.values()))", "python"),
    "failed": interpreter.run("rain['Rome']"),
    "bash": interpreter.run("echo told", "bash"),
    "javascript": interpreter.run("6 * 7", "javascript"),
    "plotted": interpreter.run("import matplotlib.pyplot as p; p.plot([1]); p.show()")[:40],
    "command": interpreter.execute_command("echo out").stdout,
}
interpreter._sandbox.kill()
names = ("camel-ai", "e2b-code-interpreter", "e2b")
print(json.dumps(seen | {"versions": {name: version(name) for name in names}}))
