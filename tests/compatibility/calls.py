"""Every call of E2B's Python client that acts in a sandbox, once; prints what came of each.

Runs in an environment of its own with any 2.x release of the package ``e2b``: it uses
nothing else. Its last line is JSON: call → "ok", "absent" (not in that release), or what
went wrong.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import e2b

Call = Callable[[Any], object]
CALLS: dict[str, Call] = {}


class Absent(Exception):
    """This release has no such call."""


def call(name: str) -> Callable[[Call], Call]:
    def note(function: Call) -> Call:
        CALLS[name] = function
        return function

    return note


def part(whole: Any, name: str) -> Any:
    try:
        return getattr(whole, name)
    except AttributeError:
        raise Absent(name) from None


def fails(kind: str, action: Callable[[], object]) -> Any:
    """The exception of that class that the action raises."""
    try:
        action()
    except Exception as error:
        names = [each.__name__ for each in type(error).__mro__]
        if kind in names:
            return error
        raise AssertionError(f"{names[0]}: {error}") from error
    raise AssertionError(f"no {kind}")


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# --- commands ---------------------------------------------------------------------------


@call("commands.run")
def _(s: Any) -> None:
    done = s.commands.run("echo out; echo err >&2")
    assert (done.stdout, done.stderr, done.exit_code) == ("out\n", "err\n", 0)


@call("commands.run, an exit code")
def _(s: Any) -> None:
    error = fails("CommandExitException", lambda: s.commands.run("echo before; exit 3"))
    assert (error.exit_code, error.stdout) == (3, "before\n")


@call("commands.run, envs, cwd and user")
def _(s: Any) -> None:
    ask = 'echo "$A $PWD $(whoami)"'
    done = s.commands.run(ask, envs={"A": "it's"}, cwd="/tmp", user="root")
    assert done.stdout == "it's /tmp root\n", done.stdout


@call("commands.run, an unknown user")
def _(s: Any) -> None:
    error = fails("AuthenticationException", lambda: s.commands.run("true", user="nobody-here"))
    assert "invalid username: 'nobody-here'" in str(error)


@call("commands.run, a directory that is not there")
def _(s: Any) -> None:
    fails("InvalidArgumentException", lambda: s.commands.run("true", cwd="/not/there"))


@call("commands.run, a time-out")
def _(s: Any) -> None:
    fails("TimeoutException", lambda: s.commands.run("sleep 77", timeout=1))
    ask = "pgrep -f '[s]leep 77' || echo none"
    until(lambda: s.commands.run(ask).stdout == "none\n", "it runs on")


@call("commands.run, output that is not UTF-8")
def _(s: Any) -> None:
    assert s.commands.run(r"printf 'a\xff\xfeb'").stdout.strip("�") == "a��b"


@call("commands.run, output as it comes")
def _(s: Any) -> None:
    pieces: list[tuple[float, str]] = []
    s.commands.run(
        "echo 1; sleep 0.4; echo 2",
        on_stdout=lambda text: pieces.append((time.monotonic(), str(text))),
    )
    assert pieces[-1][0] - pieces[0][0] > 0.2


@call("commands.run, in the background")
def _(s: Any) -> None:
    handle = s.commands.run("sleep 0.2; echo done", background=True)
    assert handle.wait().stdout == "done\n"


@call("commands.list")
def _(s: Any) -> None:
    handle = s.commands.run("sleep 30", background=True)
    found = [each for each in s.commands.list() if each.pid == handle.pid]
    assert "sleep 30" in found[0].args
    handle.kill()


@call("commands.kill")
def _(s: Any) -> None:
    handle = s.commands.run("sleep 30", background=True)
    assert s.commands.kill(handle.pid) is True
    error = fails("CommandExitException", handle.wait)
    assert (error.exit_code, error.error) == (-1, "signal: killed"), error
    assert s.commands.kill(999_999) is False


@call("commands.connect")
def _(s: Any) -> None:
    handle = s.commands.run("sleep 0.5; echo late", background=True)
    handle.disconnect()
    assert s.commands.connect(handle.pid).wait().stdout == "late\n"


@call("commands.send_stdin")
def _(s: Any) -> None:
    handle = _with_stdin(s, "read line; echo got $line")
    s.commands.send_stdin(handle.pid, "words\n")
    assert handle.wait().stdout == "got words\n"


def _with_stdin(s: Any, command: str) -> Any:
    try:
        return s.commands.run(command, background=True, stdin=True)
    except TypeError:  # before 2.0 stdin was always open
        return s.commands.run(command, background=True)


@call("commands.close_stdin")
def _(s: Any) -> None:
    close = part(s.commands, "close_stdin")
    handle = _with_stdin(s, "cat; echo end")
    close(handle.pid)
    assert handle.wait().stdout == "end\n"


# --- terminals --------------------------------------------------------------------------


def _terminal(s: Any) -> Any:
    return s.pty.create(e2b.PtySize(rows=24, cols=80))


def _read(handle: Any) -> str:
    seen: list[bytes] = []
    handle.wait(on_pty=seen.append)
    return b"".join(seen).decode()


@call("pty.create")
def _(s: Any) -> None:
    handle = _terminal(s)
    s.pty.send_stdin(handle.pid, b"echo $TERM-$((40 + 2)); exit\n")
    assert "xterm-256color-42" in _read(handle)


@call("pty.resize")
def _(s: Any) -> None:
    handle = _terminal(s)
    s.pty.resize(handle.pid, e2b.PtySize(rows=33, cols=111))
    s.pty.send_stdin(handle.pid, b"stty size; exit\n")
    assert "33 111" in _read(handle)


@call("pty.connect")
def _(s: Any) -> None:
    connect = part(s.pty, "connect")
    handle = _terminal(s)
    handle.disconnect()
    again = connect(handle.pid)
    s.pty.send_stdin(handle.pid, b"echo $((40 + 3)); exit\n")
    assert "43" in _read(again)


@call("pty.kill")
def _(s: Any) -> None:
    handle = _terminal(s)
    assert s.pty.kill(handle.pid) is True
    error = fails("CommandExitException", handle.wait)
    assert (error.exit_code, error.error) == (-1, "signal: killed")


# --- files ------------------------------------------------------------------------------


@call("files.write and files.read, text")
def _(s: Any) -> None:
    written = s.files.write("deep/er/text.txt", "läuft\n")
    assert (written.path, written.name) == ("/home/user/deep/er/text.txt", "text.txt")
    assert s.files.read("deep/er/text.txt") == "läuft\n"


@call("files.write and files.read, bytes")
def _(s: Any) -> None:
    content = bytes(range(256)) * 20_000
    s.files.write("bytes", content)
    assert bytes(s.files.read("bytes", format="bytes")) == content


@call("files.write and files.read, streams")
def _(s: Any) -> None:
    import io

    s.files.write("stream", io.BytesIO(b"piece" * 500_000))
    assert b"".join(s.files.read("stream", format="stream")) == b"piece" * 500_000


@call("files.write and files.read, gzip")
def _(s: Any) -> None:
    try:
        s.files.write("zipped", "again " * 10_000, gzip=True)
        assert s.files.read("zipped", gzip=True) == "again " * 10_000
    except TypeError:
        raise Absent("gzip") from None


@call("files.write, several")
def _(s: Any) -> None:
    write = getattr(s.files, "write_files", s.files.write)
    made = write([{"path": f"many/{n}", "data": str(n)} for n in range(12)])
    assert [each.name for each in made] == [str(n) for n in range(12)]
    assert s.files.read("many/7") == "7"


@call("files.read, what is not there")
def _(s: Any) -> None:
    fails("NotFoundException", lambda: s.files.read("none"))


@call("files.read, a directory")
def _(s: Any) -> None:
    fails("InvalidArgumentException", lambda: s.files.read("/tmp"))


@call("files.read, procfs")
def _(s: Any) -> None:
    assert len(s.files.read("/proc/sys/kernel/random/boot_id")) == 37


@call("files.list")
def _(s: Any) -> None:
    s.files.write("tree/a/b/c", "")
    s.files.write("tree/d", "")
    assert [each.name for each in s.files.list("tree")] == ["a", "d"]
    assert [each.name for each in s.files.list("tree", depth=2)] == ["a", "b", "d"]


@call("files.exists")
def _(s: Any) -> None:
    assert s.files.exists("/etc/passwd") is True
    assert s.files.exists("/etc/none") is False


@call("files.get_info")
def _(s: Any) -> None:
    s.files.write("info", "four")
    info = part(s.files, "get_info")("info")
    seen = (info.size, info.mode, info.permissions, info.owner, info.group)
    assert seen == (4, 0o644, "-rw-r--r--", "user", "user"), seen


@call("files.make_dir")
def _(s: Any) -> None:
    assert s.files.make_dir("new/dir") is True
    assert s.files.make_dir("new/dir") is False


@call("files.rename")
def _(s: Any) -> None:
    s.files.write("old", "x")
    assert s.files.rename("old", "moved/new").path == "/home/user/moved/new"
    fails("NotFoundException", lambda: s.files.rename("old", "other"))


@call("files.remove")
def _(s: Any) -> None:
    s.files.write("gone/a", "x")
    s.files.remove("gone")
    assert not s.files.exists("gone")


@call("files.write, metadata")
def _(s: Any) -> None:
    try:
        s.files.write("tagged", "x", metadata={"kind": "note"})
    except TypeError:
        raise Absent("metadata") from None
    assert s.files.get_info("tagged").metadata == {"kind": "note"}


def _events(handle: Any) -> list[tuple[str, str]]:
    return [(each.type.value, each.name) for each in handle.get_new_events()]


@call("files.watch_dir")
def _(s: Any) -> None:
    s.files.make_dir("watched")
    handle = s.files.watch_dir("watched")
    s.files.write("watched/new", "x")
    wanted = [("create", "new"), ("chmod", "new"), ("write", "new")]
    assert (seen := _events(handle)) == wanted, seen
    handle.stop()


@call("files.watch_dir, recursive")
def _(s: Any) -> None:
    s.files.make_dir("above")
    handle = s.files.watch_dir("above", recursive=True)
    s.files.write("above/just/made/new", "x")
    seen: list[tuple[str, str]] = []

    def has_come() -> bool:
        seen.extend(_events(handle))
        return ("write", "just/made/new") in seen

    until(has_come, f"only {seen}")
    handle.stop()


@call("upload_url and download_url")
def _(s: Any) -> None:
    up = s.upload_url("signed/file.txt", use_signature_expiration=60)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body = head + b"signed\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    request = urllib.request.Request(up, data=body, headers=kind, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(s.download_url("signed/file.txt"), timeout=10) as answer:
        assert answer.read() == b"signed"


# --- git --------------------------------------------------------------------------------


@call("git.init, add, commit, status, branches")
def _(s: Any) -> None:
    git = part(s, "git")
    git.init("repo", initial_branch="main")
    git.configure_user("A", "a@example.org")
    s.files.write("repo/a", "1")
    git.add("repo")
    git.commit("repo", "first")
    assert git.status("repo").is_clean
    git.create_branch("repo", "side")
    assert sorted(git.branches("repo").branches) == ["main", "side"]


@call("git.clone, push, pull, remotes")
def _(s: Any) -> None:
    git = part(s, "git")
    git.init("hub.git", bare=True, initial_branch="main")
    git.remote_add("repo", "hub", "/home/user/hub.git")
    git.checkout_branch("repo", "main")
    git.push("repo", "hub", "main")
    git.clone("/home/user/hub.git", "copy")
    git.commit("repo", "second", allow_empty=True)
    git.push("repo", "hub", "main")
    git.pull("copy", "origin", "main")
    assert s.commands.run("git -C copy log --format=%s").stdout == "second\nfirst\n"


# --- sandboxes --------------------------------------------------------------------------


@call("get_info")
def _(s: Any) -> None:
    assert s.get_info().sandbox_id == s.sandbox_id


@call("set_timeout")
def _(s: Any) -> None:
    s.set_timeout(300)


@call("connect")
def _(s: Any) -> None:
    again = e2b.Sandbox.connect(s.sandbox_id)
    assert again.commands.run("echo same").stdout == "same\n"


@call("is_running and kill")
def _(s: Any) -> None:
    assert s.is_running() is True
    assert s.kill() is True
    assert s.is_running() is False


def main() -> None:
    sandbox = e2b.Sandbox.create()
    seen: dict[str, str] = {}
    try:
        for name, function in CALLS.items():
            try:
                function(sandbox)
            except Absent:
                seen[name] = "absent"
            except Exception as error:
                seen[name] = f"{type(error).__name__}: {str(error)[:300]}"
            else:
                seen[name] = "ok"
    finally:
        sandbox.kill()
    print(json.dumps({"version": version("e2b"), "calls": seen}))


if __name__ == "__main__":
    main()
