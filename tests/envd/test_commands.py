"""``sandbox.commands`` of E2B's Python client against a real sandbox."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from e2b import (
    AuthenticationException,
    CommandExitException,
    CommandHandle,
    InvalidArgumentException,
    NotFoundException,
    Sandbox,
)

from code_interpreter.envd.process import UNKNOWN_END
from code_interpreter.protocol.boxes import TEAM_ID
from tests.envd import supervisors
from tests.envd.alive import is_alive, wait_until_dead
from tests.service import Service

FOLLOWED = 150

# --- what it answers --------------------------------------------------------------------


def test_outputs_and_exit_code(box: Sandbox) -> None:
    done = box.commands.run("echo out; echo err >&2")
    assert (done.stdout, done.stderr, done.exit_code, done.error) == ("out\n", "err\n", 0, None)


def test_an_exit_code_other_than_zero(box: Sandbox) -> None:
    with pytest.raises(CommandExitException) as caught:
        box.commands.run("echo half; exit 42")
    assert caught.value.exit_code == 42
    assert caught.value.error == "exit status 42"
    assert caught.value.stdout == "half\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("KILL", "signal: killed"),
        ("TERM", "signal: terminated"),
        ("SEGV", "signal: segmentation fault"),
        ("USR1", "signal: user defined signal 1"),
        ("RTMIN+3", "signal: signal 37"),
    ],
)
def test_the_end_by_a_signal(box: Sandbox, name: str, words: str) -> None:
    with pytest.raises(CommandExitException) as caught:
        box.commands.run(f"ulimit -c 0; kill -{name} $$")
    assert caught.value.exit_code == -1
    assert caught.value.error == words


def test_output_that_is_not_utf_8(box: Sandbox) -> None:
    assert box.commands.run(r"printf 'a\xff\xfeb'").stdout == "a\ufffd\ufffdb"


def test_a_character_in_two_pieces(box: Sandbox) -> None:
    done = box.commands.run(r"printf '\xe2'; sleep 0.1; printf '\x82\xac'")
    assert done.stdout == "€"


def test_output_comes_as_it_is_made(box: Sandbox) -> None:
    seen: list[float] = []
    box.commands.run(
        "for n in 1 2 3; do echo $n; sleep 0.3; done",
        on_stdout=lambda _: seen.append(time.monotonic()),
    )
    assert len(seen) == 3
    assert seen[2] - seen[0] > 0.4


def test_a_program_that_is_not_there(box: Sandbox) -> None:
    with pytest.raises(CommandExitException) as caught:
        box.commands.run("no-such-program")
    assert caught.value.exit_code == 127


def test_the_end_waits_for_who_holds_the_output(box: Sandbox) -> None:
    done = box.commands.run("(sleep 0.5; echo late) & echo early")
    assert done.stdout == "early\nlate\n"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to see a sandbox's processes")
@pytest.mark.parametrize(
    ("megabytes", "pause"),
    [
        pytest.param(200, 0.0, id="200 MB"),
        pytest.param(1000, 0.0, id="1 GB", marks=pytest.mark.slow),
        pytest.param(80, 2.0, id="a slow reader"),
    ],
)
def test_much_output_in_little_memory(
    box: Sandbox, service: Service, megabytes: int, pause: float
) -> None:
    """Of the sandbox's supervisors, and of the host, whose edge all of it goes through."""
    size = 0

    def count(text: str) -> None:
        nonlocal size
        if size == 0:
            time.sleep(pause)
        size += len(text)

    script = f"head -c {megabytes}000000 /dev/zero | tr '\\0' x"
    handle = box.commands.run(script, background=True, timeout=0)
    watched = [*supervisors.processes(box.sandbox_id), psutil.Process(service.process.pid)]
    before = {each.pid: _peak(each, reset=True) for each in watched}
    handle._stdout_chunks = Dropping()  # the client keeps all of it otherwise
    handle.wait(on_stdout=count)
    assert size == megabytes * 1_000_000
    for process in watched:
        assert _peak(process) - before[process.pid] < 32 * 1024 * 1024, process.cmdline()


class Dropping(list[str]):
    def append(self, _: str) -> None:
        pass


def _peak(process: psutil.Process, *, reset: bool = False) -> int:
    """Bytes that were resident at most (VmHWM), since the last reset: see proc(5), clear_refs."""
    directory = Path(f"/proc/{process.pid}")
    if reset:
        (directory / "clear_refs").write_text("5")
    (line,) = [line for line in (directory / "status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024


# --- how it is started ------------------------------------------------------------------


def test_a_login_shell(box: Sandbox) -> None:
    done = box.commands.run("shopt -q login_shell && echo login; echo $0")
    assert done.stdout == "login\n/bin/bash\n"


@pytest.mark.parametrize(("user", "home"), [("user", "/home/user"), ("root", "/root")])
def test_users(box: Sandbox, user: str, home: str) -> None:
    done = box.commands.run("whoami; echo $USER $LOGNAME; echo $HOME; pwd", user=user)
    assert done.stdout == f"{user}\n{user} {user}\n{home}\n{home}\n"


def test_the_default_user(box: Sandbox) -> None:
    assert box.commands.run("id -un; id -gn").stdout == "user\nuser\n"


def test_an_account_made_by_the_user(box: Sandbox) -> None:
    box.commands.run("useradd --create-home somebody", user="root")
    assert box.commands.run("whoami; pwd", user="somebody").stdout == "somebody\n/home/somebody\n"


@pytest.mark.parametrize("user", ["nobody-here", "user:x", "../root", "ü"])
def test_an_unknown_user(box: Sandbox, user: str) -> None:
    name = user.partition(":")[0]
    if name == "user":
        assert box.commands.run("whoami", user=user).stdout == "user\n"
        return
    with pytest.raises(AuthenticationException, match=f"invalid username: '{name}'"):
        box.commands.run("true", user=user)


def test_sudo(box: Sandbox) -> None:
    assert box.commands.run("sudo whoami").stdout == "root\n"


def test_environment(box: Sandbox) -> None:
    script = "echo $GLOBAL $BOTH $OWN $E2B_SANDBOX $E2B_SANDBOX_ID"
    done = box.commands.run(script, envs={"BOTH": "own", "OWN": "a 'b' \"c\" $d\n\te"})
    assert done.stdout.split() == [
        "global",
        "own",
        "a",
        "'b'",
        '"c"',
        "$d",
        "e",
        "true",
        box.sandbox_id,
    ]


def test_a_command_s_variables_do_not_get_through_sudo(box: Sandbox) -> None:
    done = box.commands.run("sudo printenv SECRET || echo none", envs={"SECRET": "x"})
    assert done.stdout == "none\n"


def test_where_the_sandbox_is_told(box: Sandbox) -> None:
    names = ("E2B_SANDBOX", "E2B_SANDBOX_ID", "E2B_TEAM_ID", "E2B_TEMPLATE_ID")
    script = "; ".join(f"cat /run/e2b/.{name}; echo; echo ${name}" for name in names)
    found = box.commands.run(script).stdout.split()
    assert found[::2] == found[1::2] == ["true", box.sandbox_id, TEAM_ID, "base"]


def test_whatever_name_it_was_made_ahead_for(service: Service) -> None:
    """Some of them are given out while they are being made."""

    def template() -> list[str]:
        with Sandbox.create(**service.options) as sandbox:
            script = "cat /run/e2b/.E2B_TEMPLATE_ID; echo; echo $E2B_TEMPLATE_ID"
            told: str = sandbox.commands.run(script).stdout
            return told.split()

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: template(), range(12)))
    assert found == [["base", "base"]] * 12


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_a_variable_that_cannot_be(box: Sandbox, name: str) -> None:
    with pytest.raises(InvalidArgumentException, match="name of a variable"):
        box.commands.run("true", envs={name: "x"})


@pytest.mark.parametrize(
    ("cwd", "where"),
    [
        ("/tmp", "/tmp"),
        ("~", "/home/user"),
        ("~/deep", "/home/user/deep"),
        ("deep", "/home/user/deep"),
        ("/usr/../tmp/.", "/tmp"),
    ],
)
def test_working_directories(box: Sandbox, cwd: str, where: str) -> None:
    box.files.make_dir("deep")
    assert box.commands.run("pwd", cwd=cwd).stdout == where + "\n"


def test_a_working_directory_that_is_not_there(box: Sandbox) -> None:
    with pytest.raises(InvalidArgumentException, match="cwd '/no/such' does not exist"):
        box.commands.run("true", cwd="/no/such")


def test_a_working_directory_that_is_a_file(box: Sandbox) -> None:
    with pytest.raises(InvalidArgumentException, match="cwd '/etc/passwd': not a directory"):
        box.commands.run("true", cwd="/etc/passwd")


def test_a_user_without_a_home(box: Sandbox) -> None:
    assert box.commands.run("whoami; pwd", user="nobody").stdout == "nobody\n/\n"


def test_a_working_directory_is_not_code(box: Sandbox) -> None:
    name = "a'; touch /tmp/pwned; '\n$(touch /tmp/pwned)"
    box.files.make_dir(name)
    assert box.commands.run("pwd", cwd=name).stdout == f"/home/user/{name}\n"
    assert not box.files.exists("/tmp/pwned")


def test_no_descriptors_of_envd(box: Sandbox) -> None:
    done = box.commands.run("ls -l /proc/self/fd | awk 'NR > 1 {print $9}'")
    assert done.stdout.split() == ["0", "1", "2", "3"]  # 3 is ls reading


def test_the_file_mode_mask(box: Sandbox) -> None:
    assert box.commands.run("umask").stdout == "0022\n"


# --- in the background ------------------------------------------------------------------


def test_listing_and_killing(box: Sandbox) -> None:
    handle = box.commands.run("sleep 100", background=True, envs={"A": "b"}, cwd="/tmp")
    (info,) = [each for each in box.commands.list() if each.pid == handle.pid]
    assert (info.cmd, info.args) == ("/bin/bash", ["-l", "-c", "sleep 100"])
    assert (info.envs, info.cwd, info.tag) == ({"A": "b"}, "/tmp", None)
    assert is_alive(box, handle.pid)
    assert handle.kill() is True
    wait_until_dead(box, handle.pid)
    assert handle.kill() is False
    assert handle.pid not in [each.pid for each in box.commands.list()]
    with pytest.raises(CommandExitException) as caught:
        handle.wait()
    assert (caught.value.exit_code, caught.value.error) == (-1, "signal: killed")


def test_killing_what_has_children(box: Sandbox) -> None:
    """They hold its outputs and go on, unharmed by its end."""
    script = "(sleep 1.5; head -c 200000 /dev/zero && touch wrote; exec sleep 100) & echo $!; wait"
    handle = box.commands.run(f"rm -f wrote; {script}", background=True)
    stdout = next(out for out, _, _ in handle if out is not None)
    started = time.monotonic()
    assert handle.kill() is True
    with pytest.raises(CommandExitException) as caught:
        handle.wait()
    assert time.monotonic() - started < 10
    assert caught.value.error == "signal: killed"
    assert handle.pid not in {info.pid for info in box.commands.list()}
    child = int(stdout)
    while not box.files.exists("wrote"):
        assert is_alive(box, child)
    box.commands.run(f"kill {child}")


def test_a_pid_that_envd_did_not_start(box: Sandbox) -> None:
    assert box.commands.kill(1) is False
    with pytest.raises(NotFoundException, match="process with pid 1 not found"):
        box.commands.connect(1)


def test_a_client_that_leaves_does_not_end_it(box: Sandbox) -> None:
    handle = box.commands.run(
        "for n in $(seq 200); do echo $n; sleep 0.02; done; echo end > left", background=True
    )
    handle.disconnect()
    deadline = time.monotonic() + 15
    while not box.files.exists("left"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_client_that_leaves_a_flood_does_not_hold_it_up(box: Sandbox) -> None:
    handle = box.commands.run("yes | head -c 50000000; echo end > flooded", background=True)
    handle.disconnect()
    deadline = time.monotonic() + 15
    while not box.files.exists("flooded"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_connecting_to_what_runs(box: Sandbox) -> None:
    started = box.commands.run("for n in 1 2 3 4 5; do sleep 0.2; echo $n; done", background=True)
    joined = box.commands.connect(started.pid)
    assert joined.wait().stdout == started.wait().stdout == "1\n2\n3\n4\n5\n"


def test_connecting_late(box: Sandbox) -> None:
    handle = box.commands.run("exit 7", background=True)
    handle.disconnect()
    time.sleep(1)
    with pytest.raises(CommandExitException) as caught:
        box.commands.connect(handle.pid).wait()
    assert caught.value.exit_code == 7


def test_nothing_is_left_of_finished_commands(box: Sandbox) -> None:
    for _ in range(3):
        box.commands.run("sleep 0.01 & true")
    done = box.commands.run("ps -eo stat= | grep -c Z || true")
    assert done.stdout == "0\n"


def test_whoever_kills_everything_of_a_user(box: Sandbox) -> None:
    """Again and again: whoever starts commands goes too, and is there for the next."""
    for number in range(5):
        handle = box.commands.run("sleep 100", background=True)
        box.commands.run("kill -9 -1 || true", user="root", background=True).disconnect()
        with pytest.raises(CommandExitException) as caught:
            handle.wait()
        assert caught.value.exit_code == -1
        assert caught.value.error in ("signal: killed", UNKNOWN_END)
        for user in ("user", "root"):
            assert box.commands.run(f"echo {number}", user=user).stdout == f"{number}\n"


NOSY = """
import os
def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
starter = parent(parent(os.getpid()))  # of the shell that runs this
assert parent(parent(starter)) == 1, "envd's parent is init"
for name in ("environ", "mem", "maps", "fd/0"):
    try:
        open(f"/proc/{starter}/{name}").close()
        print("may read", name)
    except PermissionError:
        pass
"""


@pytest.mark.parametrize("user", ["user", "root"])
def test_whoever_looks_into_the_process_that_starts_commands(box: Sandbox, user: str) -> None:
    box.files.write("/tmp/nosy.py", NOSY)
    assert box.commands.run("python3 /tmp/nosy.py; true", user=user).stdout == ""


def test_arguments_that_are_too_long(box: Sandbox) -> None:
    with pytest.raises(InvalidArgumentException, match="'A' has 200002 bytes"):
        box.commands.run("true", envs={"A": "x" * 200_000})
    with pytest.raises(InvalidArgumentException, match="at most 131071 bytes, this one 200007"):
        box.commands.run(f"true # {'x' * 200_000}")
    with pytest.raises(InvalidArgumentException, match="together are too long"):
        box.commands.run("true", envs={f"A{number}": "x" * 100_000 for number in range(25)})
    done = box.commands.run(f"echo {'x' * 100_000}", envs={"A": "y" * 100_000})
    assert len(done.stdout) == 100_001


# --- many -------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_two_hundred_at_once(box: Sandbox) -> None:
    barrier = threading.Barrier(50)

    def run(number: int) -> str:
        if number < 50:
            barrier.wait(30)
        return box.commands.run(f"sleep 0.2; echo {number}").stdout

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(run, range(200))) == [f"{number}\n" for number in range(200)]
    assert [info for info in box.commands.list() if "sleep 0.2" in info.args[-1]] == []


@pytest.mark.timeout(180)
def test_two_hundred_alive_at_the_same_moment(box: Sandbox) -> None:
    """None ends before all have begun; the client has connections to follow 150 of them."""

    def start(number: int) -> CommandHandle:
        script = f": < begin; echo {number}; exit {number % 3}"  # opened when it is written to
        handle = box.commands.run(script, background=True, timeout=0)
        if number >= FOLLOWED:
            handle.disconnect()
        return handle

    box.commands.run("mkfifo begin")
    with ThreadPoolExecutor(20) as pool:
        handles = list(pool.map(start, range(200)))
        pids = {handle.pid for handle in handles}
        assert len(pids) == 200
        assert pids <= {info.pid for info in box.commands.list()}
        box.commands.run("exec 3<> begin; sleep 1; rm begin")
        seen = list(pool.map(_end, handles[:FOLLOWED]))
        late = [_end(box.commands.connect(handle.pid)) for handle in handles[FOLLOWED:]]
    assert seen == [(f"{number}\n", number % 3) for number in range(FOLLOWED)]
    assert [code for _, code in late] == [number % 3 for number in range(FOLLOWED, 200)]
    assert not pids & {info.pid for info in box.commands.list()}
    assert box.commands.run("ps -eo stat= | grep -c Z || true").stdout == "0\n"


def _end(handle: CommandHandle) -> tuple[str, int]:
    try:
        done = handle.wait()
    except CommandExitException as error:
        return error.stdout, error.exit_code
    return done.stdout, done.exit_code
