"""Code, charts, errors and contexts, through our client and through E2B's."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

PNG = b"\x89PNG\r\n\x1a\n"


def test_state_is_kept_between_cells(sandbox: Any) -> None:
    sandbox.run_code("x = 1")
    sandbox.run_code("def twice(value): return 2 * value")
    assert sandbox.run_code("x += 1; twice(x)").text == "4"


def test_javascript_keeps_its_state_too(sandbox: Any) -> None:
    assert sandbox.run_code("const a = 20; let b = 1", language="javascript").error is None
    assert sandbox.run_code("b += 1; a + b", language="javascript").text == "22"
    sandbox.run_code("a = 'python'")
    assert sandbox.run_code("a", language="javascript").text == "20"


def test_a_chart_is_a_picture_and_its_data(sandbox: Any) -> None:
    execution = sandbox.run_code(
        "import matplotlib.pyplot as plt\n"
        "plt.bar(['oak', 'elm'], [3, 5])\n"
        "plt.title('Trees'); plt.xlabel('kind'); plt.ylabel('height (m)')\n"
        "plt.show()"
    )
    assert execution.error is None
    (result,) = execution.results
    assert base64.b64decode(result.png).startswith(PNG)
    chart = result.chart
    assert (chart.type.value, chart.title, chart.y_unit) == ("bar", "Trees", "m")
    assert [(bar.label, float(bar.value)) for bar in chart.elements] == [("oak", 3), ("elm", 5)]


def test_a_data_frame_is_text_and_html(sandbox: Any) -> None:
    result = sandbox.run_code("import pandas as pd\npd.DataFrame({'a': [1, 2]})").results[0]
    assert "a" in result.text
    assert "<table" in result.html
    assert {"text", "html"} <= set(result.formats())


def test_after_an_error_the_context_goes_on(sandbox: Any) -> None:
    sandbox.run_code("kept = 'yes'")
    error = sandbox.run_code("def fail():\n    return 1 / 0\n\nfail()").error
    assert (error.name, error.value) == ("ZeroDivisionError", "division by zero")
    assert "fail()" in error.traceback
    assert sandbox.run_code("kept == 'yes'").text == "True"


def test_output_comes_while_the_cell_runs(sandbox: Any) -> None:
    lines: list[tuple[float, str]] = []
    errors: list[str] = []
    execution = sandbox.run_code(
        "import sys, time\nprint('one')\ntime.sleep(0.5)\nprint('two')\n"
        "print('e', file=sys.stderr)",
        on_stdout=lambda message: lines.append((time.monotonic(), message.line)),
        on_stderr=lambda message: errors.append(message.line),
    )
    assert "".join(execution.logs.stdout) == "one\ntwo\n"
    assert "".join(text for _, text in lines) == "one\ntwo\n"
    assert "".join(errors) == "e\n"
    assert lines[-1][0] - lines[0][0] > 0.3


def test_variables_for_one_run(sandbox: Any) -> None:
    city = 'O\'Fallon\n"x"'
    code = f"import os; os.environ.get('CITY') == {city!r}"
    assert sandbox.run_code(code, envs={"CITY": city}).text == "True"
    assert sandbox.run_code("'CITY' in os.environ").text == "False"


def test_contexts_are_kernels_of_their_own(sandbox: Any) -> None:
    sandbox.files.make_dir("/home/user/project")
    context = sandbox.create_code_context(cwd="/home/user/project")
    assert context.language == "python"
    code = "import os; os.getcwd() == '/home/user/project'"
    assert sandbox.run_code(code, context=context).text == "True"
    sandbox.run_code("mine = 1", context=context)
    assert sandbox.run_code("mine").error.name == "NameError"
    assert context.id in [each.id for each in sandbox.list_code_contexts()]
    sandbox.restart_code_context(context)
    assert sandbox.run_code("mine", context=context).error.name == "NameError"
    sandbox.remove_code_context(context)
    assert context.id not in [each.id for each in sandbox.list_code_contexts()]


def test_a_cell_that_takes_too_long_is_stopped(package: Any, sandbox: Any) -> None:
    sandbox.run_code("kept = 1")
    started = time.monotonic()
    with pytest.raises(package.TimeoutException):
        sandbox.run_code("import time; time.sleep(60)", timeout=1)
    assert sandbox.run_code("kept", timeout=30).text == "1"
    assert time.monotonic() - started < 20


def test_two_sandboxes_share_nothing(package: Any, sandbox: Any) -> None:
    with package.Sandbox.create() as other:
        sandbox.run_code("secret = 1; open('/home/user/secret', 'w').write('x')")
        assert other.run_code("secret").error.name == "NameError"
        code = "import os; os.path.exists('/home/user/secret')"
        assert (sandbox.run_code(code).text, other.run_code(code).text) == ("True", "False")


def test_files_and_code_see_the_same_disk(sandbox: Any) -> None:
    sandbox.files.write("data/numbers.csv", "n\n1\n2\n3\n")
    code = "import pandas as pd\nint(pd.read_csv('data/numbers.csv').n.sum())"
    assert sandbox.run_code(code).text == "6"
    sandbox.run_code("open('out.bin', 'wb').write(bytes(range(256)))")
    assert bytes(sandbox.files.read("out.bin", format="bytes")) == bytes(range(256))


def test_commands_beside_code(package: Any, sandbox: Any) -> None:
    sandbox.run_code("open('/tmp/note', 'w').write('from a cell')")
    assert sandbox.commands.run("cat /tmp/note").stdout == "from a cell"
    with pytest.raises(package.CommandExitException) as caught:
        sandbox.commands.run("echo out; echo err >&2; exit 3")
    assert (caught.value.exit_code, caught.value.stdout) == (3, "out\n")


def test_a_killed_sandbox(package: Any) -> None:
    sandbox = package.Sandbox.create()
    assert sandbox.is_running()
    assert sandbox.kill() is True
    assert not sandbox.is_running()
    assert sandbox.kill() is False
    with pytest.raises(package.TimeoutException):
        sandbox.run_code("1")


def test_a_sandbox_ends_at_its_time_and_not_before(package: Any) -> None:
    sandbox = package.Sandbox.create(timeout=3)
    assert sandbox.run_code("1").text == "1"
    time.sleep(4)
    assert not sandbox.is_running()


def test_another_program_connects_to_the_same_sandbox(package: Any, sandbox: Any) -> None:
    sandbox.run_code("shared = 42")
    again = package.Sandbox.connect(sandbox.sandbox_id)
    assert again.run_code("shared").text == "42"


# The same through the asynchronous classes.


async def test_asynchronously(package: Any) -> None:
    sandbox = await package.AsyncSandbox.create()
    try:
        await sandbox.run_code("x = 20")
        assert (await sandbox.run_code("x + 1")).text == "21"
        script = await sandbox.run_code("[1, 2].map(n => n * 2)", language="javascript")
        assert script.error is None
        lines: list[str] = []

        async def take(message: Any) -> None:
            lines.append(message.line)

        await sandbox.run_code("print('hello')", on_stdout=take)
        assert "".join(lines) == "hello\n"
        error = (await sandbox.run_code("[][0]")).error
        assert error.name == "IndexError"
        chart = await sandbox.run_code(
            "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4]); plt.show()"
        )
        assert chart.results[0].chart.type.value == "line"
        assert (await sandbox.commands.run("echo hi")).stdout == "hi\n"
        await sandbox.files.write("note.txt", "written")
        assert await sandbox.files.read("note.txt") == "written"
    finally:
        assert await sandbox.kill() is True
    assert not await sandbox.is_running()


def test_every_format_reaches_the_client(sandbox: Any) -> None:
    execution = sandbox.run_code(
        "from IPython.display import HTML, JSON, SVG, Javascript, Latex, Markdown, display\n"
        "from PIL import Image\n"
        "for each in (HTML('<b>h</b>'), Markdown('*m*'), Latex('$l$'), JSON({'j': 1}),\n"
        "             Javascript('1'), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'),\n"
        "             Image.new('RGB', (2, 2))):\n"
        "    display(each)\n"
        "display({'application/pdf': 'JVBERg==', 'application/x-own': {'k': 1}}, raw=True)"
    )
    assert execution.error is None
    html, markdown, latex, json, javascript, svg, image, other = execution.results
    assert (html.html, markdown.markdown, latex.latex) == ("<b>h</b>", "*m*", "$l$")
    assert (json.json, javascript.javascript) == ({"j": 1}, "1")
    assert svg.svg.startswith("<svg")
    assert base64.b64decode(image.png).startswith(PNG)
    assert other.pdf == "JVBERg=="
    assert other.extra == {"application/x-own": {"k": 1}}
    assert "application/x-own" in other.formats()


def test_a_widget_is_text(sandbox: Any) -> None:
    result = sandbox.run_code("import ipywidgets; ipywidgets.IntSlider(3)").results[0]
    assert result.text == "IntSlider(value=3)"


@pytest.mark.parametrize(
    ("code", "kind", "picture"),
    [
        ("import matplotlib.pyplot as plt; plt.hist([1, 2, 2]); plt.show()", "bar", True),
        ("import matplotlib.pyplot as plt; plt.imshow([[1, 2]]); plt.show()", "unknown", True),
        (
            "import matplotlib.pyplot as plt\n"
            "plt.figure().add_subplot(projection='3d').plot([1], [1], [1]); plt.show()",
            "unknown",
            True,
        ),
        (
            "import seaborn as s, pandas as p; s.barplot(x=['a'], y=[1]); s.mpl.pyplot.show()",
            "bar",
            True,
        ),
        ("import plotly.express as px; px.bar(x=['a', 'b'], y=[1, 2])", "bar", False),
        (
            "import altair as a, pandas as p\n"
            "a.Chart(p.DataFrame({'x': [1], 'y': [2]})).mark_line().encode(x='x', y='y')",
            "line",
            True,
        ),
        (
            "from bokeh.plotting import figure as f; p = f(); p.line([1, 2], [1, 2]); p",
            "line",
            False,
        ),
    ],
)
def test_charts_of_every_library(sandbox: Any, code: str, kind: str, picture: bool) -> None:
    execution = sandbox.run_code(code)
    assert execution.error is None
    result = execution.results[-1]
    assert result.chart.type.value == kind
    assert bool(result.png) is picture
    if picture:
        assert base64.b64decode(result.png).startswith(PNG)


def test_a_chart_of_an_unknown_type_harms_nothing(sandbox: Any) -> None:
    execution = sandbox.run_code(
        "from IPython.display import display\n"
        "display({'e2b/chart': {'type': 'treemap', 'title': 't', 'elements': [1]}}, raw=True)\n"
        "display({'e2b/chart': {'type': 'bar'}, 'text/plain': 'b'}, raw=True); 'on'"
    )
    assert execution.error is None
    assert execution.text == "on"
    for result in execution.results[:2]:
        assert result.chart is None or result.chart.type.value in ("unknown", "bar")
