"""What in-sandbox servers of today get wrong, through the running service with E2B's client.

Each defect was seen with an unmodified server and its own client; each is a test here, in this
order. Four are tested elsewhere, where they can be looked at more closely:

=============================================  ===================================================
secrets of cells in the server's log           test_environment.py, test_secrets_are_not_logged
a client that reads slowly, without end        test_floods.py, test_a_slow_reader_costs_no_memory
the front server is killed                     test_gateway_restart.py
what a bash cell costs                         tests/benchmarks, ``kernels``
=============================================  ===================================================
"""

from __future__ import annotations

import importlib
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from code_interpreter import Cause, ExecutionStatus, InvalidCodeException, KernelState, Sandbox
from code_interpreter.gateway.http import KEEPALIVE_SECONDS
from tests.service import Service

SWALLOWS = "import time\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass"
HANG = 20.0
"""Seconds that nothing here takes, on a busy machine either."""


@pytest.fixture(scope="module")
def peer(service: Service) -> Iterator[Any]:
    """E2B's client."""
    package = importlib.import_module("e2b_code_interpreter")
    sandbox = package.Sandbox.create(**service.options, envs={"OF_SANDBOX": "yes"})
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="module")
def ours(service: Service, peer: Any) -> Sandbox:
    """Our client, for the same sandbox."""
    return Sandbox.connect(peer.sandbox_id, **service.options)


@pytest.fixture
def context(peer: Any) -> Iterator[Any]:
    made = peer.create_code_context()
    yield made
    if made.id in [each.id for each in peer.list_code_contexts()]:
        peer.remove_code_context(made)


def stdout(execution: Any) -> str:
    return "".join(execution.logs.stdout)


# --- time-outs and death ----------------------------------------------------------------


@pytest.mark.parametrize("pause", [0, 0.05, 0.2])
def test_the_cell_after_a_time_out_runs(peer: Any, pause: float) -> None:
    peer.run_code("import time; kept = 1")
    with pytest.raises(Exception, match="timed out"):
        peer.run_code("time.sleep(60)", timeout=0.5)
    time.sleep(pause)
    assert peer.run_code("kept", timeout=HANG).text == "1"


def test_a_loop_that_swallows_interrupts_costs_its_kernel_only(peer: Any, ours: Sandbox) -> None:
    with pytest.raises(Exception, match="timed out"):
        peer.run_code(SWALLOWS, timeout=0.5)
    assert peer.run_code("1 + 1", timeout=HANG).text == "2"
    execution = ours.run_code(SWALLOWS, background=True, timeout=0.5).execution
    handle = ours.attach_execution(str(execution.id))
    with pytest.raises(Exception, match="timed out"):
        handle.wait(HANG)
    assert handle.execution.kernel_state is KernelState.RESET


@pytest.mark.parametrize("code", ["os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_death_is_an_error_at_once_and_the_next_cell_runs(peer: Any, code: str) -> None:
    peer.run_code("import os")
    began = time.monotonic()
    execution = peer.run_code(code)
    assert time.monotonic() - began < 8
    assert execution.error.name == "ContextRestarting"
    assert ("code 1" if "exit" in code else "signal 9") in execution.error.value
    assert peer.run_code("1 + 1", timeout=HANG).text == "2"


def test_directory_and_variables_are_there_again_after_death(peer: Any, ours: Sandbox) -> None:
    peer.files.make_dir("/home/user/work")
    context = peer.create_code_context(cwd="/home/user/work")
    read = "import os; os.getcwd() + ' ' + os.environ['OF_SANDBOX']"
    died = ours.run_code("import os; os.chdir('/'); os._exit(1)", context=context.id)
    assert died.kernel_state is KernelState.LOST
    assert peer.run_code(read, context=context).text == "/home/user/work yes"
    peer.restart_code_context(context)
    assert peer.run_code(read, context=context).text == "/home/user/work yes"
    listed = {each.id: each.cwd for each in peer.list_code_contexts()}
    assert listed[context.id] == "/home/user/work"
    peer.remove_code_context(context)


@pytest.mark.parametrize(
    ("action", "cause", "name"),
    [
        ("restart", Cause.RESTART, "ContextRestarting"),
        ("remove", Cause.REMOVED, "ExecutionAborted"),
    ],
)
def test_restart_and_removal_end_the_cell_and_are_named(
    peer: Any, ours: Sandbox, context: Any, action: str, cause: Cause, name: str
) -> None:
    handle = ours.run_code("import time; time.sleep(60)", context=context.id, background=True)
    told: list[Any] = []
    waiting = threading.Thread(
        target=lambda: told.append(peer.run_code("time.sleep(60)", context=context))
    )
    waiting.start()
    while handle.execution.execution_count is None:
        next(handle)
    time.sleep(0.3)
    getattr(peer, f"{action}_code_context")(context)
    execution = handle.wait(HANG)
    assert (execution.status, execution.cause) == (ExecutionStatus.INTERRUPTED, cause)
    assert execution.error is not None
    assert execution.error.name == name
    if action == "restart":
        peer.restart_code_context(context)
    waiting.join(HANG)
    assert told[0].error.name in (name, "NameError")


# --- contexts and variables -------------------------------------------------------------


@pytest.mark.parametrize("cwd", ["/nowhere", "/tmp\nimport os; os._exit(3)", "/etc/passwd"])
def test_a_directory_that_is_none_is_refused_and_leaves_nothing(peer: Any, cwd: str) -> None:
    before = [each.id for each in peer.list_code_contexts()]
    with pytest.raises(Exception, match="is not a directory"):
        peer.create_code_context(cwd=cwd)
    assert [each.id for each in peer.list_code_contexts()] == before


@pytest.mark.parametrize("value", ["it's", 'a "b"', "two\nlines", "'; import os; os._exit(9) #"])
def test_values_of_variables_are_data(peer: Any, value: str) -> None:
    execution = peer.run_code("import os; print(os.environ['V'], end='')", envs={"V": value})
    assert execution.error is None
    assert stdout(execution) == value


def test_a_cell_with_variables_may_begin_with_a_magic(peer: Any) -> None:
    execution = peer.run_code("%%bash\necho $V", envs={"V": "there"})
    assert (execution.error, stdout(execution)) == (None, "there\n")


def test_line_numbers_are_right_with_variables(peer: Any) -> None:
    error = peer.run_code("x = 1\n\n1 / 0", envs={"A": "1", "B": "2", "C": "3"}).error
    assert "----> 3 1 / 0" in error.traceback


def test_path_is_restored(peer: Any) -> None:
    before = peer.run_code("import os; os.environ['PATH']").text
    assert peer.run_code("os.environ['PATH']", envs={"PATH": "/x"}).text == "/x"
    assert peer.run_code("os.environ['PATH']").text == before


def test_a_variable_of_a_cell_that_timed_out_is_gone(peer: Any) -> None:
    with pytest.raises(Exception, match="timed out"):
        peer.run_code("import os, time; time.sleep(60)", envs={"GONE": "1"}, timeout=0.5)
    assert peer.run_code("import os; 'GONE' in os.environ", timeout=HANG).text == "False"


# --- values and output ------------------------------------------------------------------


def test_a_lone_surrogate_is_replaced(peer: Any) -> None:
    assert stdout(peer.run_code("print('before'); print('a\\ud800b')")) == "before\na?b\n"


@pytest.mark.parametrize(
    "column",
    [
        "decimal.Decimal('1.5')",
        "datetime.date(2026, 1, 2)",
        "pd.Timedelta('1h')",
        "pd.Period('2026-01')",
        "pd.Interval(0, 1)",
        "1 + 2j",
        "object()",
        "{'a': [1]}",
    ],
)
def test_columns_of_any_type_are_shown(peer: Any, column: str) -> None:
    code = f"import datetime, decimal, pandas as pd\npd.DataFrame({{'c': [{column}] * 2}})"
    execution = peer.run_code(code)
    assert execution.error is None
    (result,) = execution.results
    assert "c" in result.text
    assert len(result.data["c"]) == 2


@pytest.mark.parametrize(
    "code",
    [
        "list(range(1_000_000))",
        "import numpy, pandas; pandas.DataFrame(numpy.ones((100_000, 10)))",
    ],
)
def test_large_values_are_bounded(peer: Any, code: str) -> None:
    (result,) = peer.run_code(code).results
    sizes = {name: len(str(result[name])) for name in result.formats()}
    assert max(sizes.values()) < 1_000_000, sizes


def test_tracebacks_can_be_read(peer: Any, ours: Sandbox) -> None:
    code = "def f():\n    return 1 / 0\ndef g():\n    return f()\ng()"
    error = peer.run_code(code).error
    assert "\x1b" not in error.traceback
    assert len(error.traceback.splitlines()) > 10
    assert error.traceback.splitlines()[-1] == "ZeroDivisionError: division by zero"
    with_colours = ours.run_code(code).error
    assert with_colours is not None
    assert with_colours.traceback.splitlines()[-1] == error.traceback.splitlines()[-1]
    assert with_colours.traceback_ansi is None or "\x1b" in with_colours.traceback_ansi


def test_columns_of_one_name_are_both_kept(peer: Any) -> None:
    code = "import pandas as pd\npd.DataFrame([[1, 2]], columns=['a', 'a'])"
    (result,) = peer.run_code(code).results
    assert [values[0] for values in result.data.values()] == [1, 2]


def test_a_string_and_a_number_are_told_apart(peer: Any, ours: Sandbox) -> None:
    assert peer.run_code("'1'").text == peer.run_code("1").text == "1"
    assert ours.run_code("'1'").results[0].text_repr == "'1'"
    assert ours.run_code("1").results[0].text_repr == "1"


def test_twenty_thousand_lines_arrive(peer: Any) -> None:
    expected = "".join(f"{n}\n" for n in range(20_000))
    assert stdout(peer.run_code("for n in range(20_000): print(n)")) == expected


def test_five_thousand_displays_arrive(peer: Any) -> None:
    execution = peer.run_code("for n in range(5000): display(n)")
    assert [result.text for result in execution.results] == [str(n) for n in range(5000)]


def test_thirty_megabytes_in_one_context_leave_another_quick(peer: Any, context: Any) -> None:
    """The benchmark ``neighbours`` tells how quick."""
    peer.run_code("1", context=context)
    loud = threading.Thread(
        target=lambda: peer.run_code("for _ in range(300): print('x' * 100_000)")
    )
    loud.start()
    delays = []
    for _ in range(20):
        began = time.monotonic()
        assert peer.run_code("1 + 1", context=context).text == "2"
        delays.append(time.monotonic() - began)
    loud.join()
    assert max(delays) < 2, delays


def test_eleven_megabytes_of_source_are_refused_before_anything_is_touched(
    peer: Any, ours: Sandbox
) -> None:
    peer.run_code("kept = 1")
    code = "x = 1\n" * (11 * 2**20 // 6 + 1)
    with pytest.raises(Exception, match="limit is 10485760"):
        peer.run_code(code)
    with pytest.raises(InvalidCodeException):
        ours.run_code(code)
    assert peer.run_code("kept").text == "1"


def test_updates_and_clearing_have_their_effect(peer: Any) -> None:
    execution = peer.run_code("h = display('old', display_id=True); h.update('new'); None")
    assert [result.text for result in execution.results] == ["new"]
    code = "from IPython.display import clear_output\n"
    code += "for n in range(5): clear_output(wait=True); print(n)"
    assert stdout(peer.run_code(code)) == "4\n"


def test_what_a_thread_prints_late_is_delivered(peer: Any) -> None:
    code = "import threading\nthreading.Timer(0.3, lambda: print('late')).start()"
    assert stdout(peer.run_code(code)) == ""
    time.sleep(1)
    assert stdout(peer.run_code("print('next')")) == "late\nnext\n"


def test_input_is_answered_or_a_clear_error(peer: Any, ours: Sandbox) -> None:
    assert ours.run_code("input('name? ')", on_input=lambda prompt: "me").text == "me"
    for ask in ("input('name? ')", "import getpass; getpass.getpass()"):
        for error in (peer.run_code(ask).error, ours.run_code(ask).error):
            assert error is not None
            assert error.name == "StdinNotImplementedError"
            assert "on_input" in error.value


# --- who may talk to the server ---------------------------------------------------------


def test_user_code_finds_no_port_of_the_server(peer: Any) -> None:
    code = """
import socket
def is_open(port):
    with socket.socket() as s:
        s.settimeout(0.2)
        return s.connect_ex(('127.0.0.1', port)) == 0
[port for port in (49999, 49983, 8888) if is_open(port)]
"""
    assert peer.run_code(code).text == "[]"


def test_no_web_page_may_use_the_server(service: Service, peer: Any) -> None:
    headers = {"E2b-Sandbox-Id": peer.sandbox_id, "E2b-Sandbox-Port": "49999"}
    answer = httpx.post(
        f"{service.url}/execute",
        headers={**headers, "Origin": "https://elsewhere.example"},
        json={"code": "1"},
    )
    assert answer.status_code in (401, 403)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_kernel_killed_by_another_context_ends_as_lost(
    peer: Any, ours: Sandbox, context: Any
) -> None:
    handle = ours.run_code(
        "import os, time; print(os.getpid(), flush=True); time.sleep(60)",
        context=context.id,
        background=True,
    )
    while not handle.execution.logs.stdout:
        next(handle)
    pid = int("".join(handle.execution.logs.stdout))
    peer.run_code(f"import os; os.kill({pid}, 9)")
    execution = handle.wait(HANG)
    assert (execution.status, execution.cause) == (ExecutionStatus.LOST, Cause.SIGNAL)
    assert context.id in [each.id for each in peer.list_code_contexts()]
    assert peer.run_code("1 + 1", context=context).text == "2"


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_default_context_that_was_removed_is_made_anew(peer: Any, language: str) -> None:
    peer.run_code("1", language=language)
    contexts = [each for each in peer.list_code_contexts() if each.language == language]
    peer.remove_code_context(contexts[0])
    assert peer.run_code("1 + 1", language=language).text == "2"


def test_a_cell_that_says_nothing_for_long_keeps_its_connection(peer: Any) -> None:
    code = f"import time; time.sleep({KEEPALIVE_SECONDS + 1}); 'done'"
    assert peer.run_code(code).text == "done"


def test_every_print_comes_when_it_happens(peer: Any) -> None:
    times: list[float] = []
    code = "import time\nfor n in range(4): print(n); time.sleep(0.5)"
    peer.run_code(code, on_stdout=lambda _: times.append(time.monotonic()))
    assert all(later - earlier > 0.2 for earlier, later in itertools.pairwise(times))
