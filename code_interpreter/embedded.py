"""The host on this machine that is used when nothing else is configured.

All programs of a user share one host. It is found by ``host.json`` in the data directory,
or started in the background; it outlives the program that started it, and stops when it
has been idle for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import math
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Unpack, cast
from urllib.parse import urlsplit

from e2b.connection_config import ApiParams, ClientFactory

from code_interpreter.errors import EmbeddedHostException
from code_interpreter.protocol.control import HostFile

STALL_SECONDS = 300.0
"""A host that is starting must say something new at least this often."""
QUIET_SECONDS = 1.5
"""A start that takes longer is shown on standard error."""
LINE_SECONDS = 5.0
"""Between two lines about a start, where standard error is not a terminal."""
HEALTH_SECONDS = 5.0
STRANGER_SECONDS = 0.5
"""For a host whose process is not seen: in another container, or dead, and then whoever has its
port now may never answer."""
LOG_LINES = 20
"""How much of the log an error shows."""

_VARIABLES = ("E2B_API_KEY", "E2B_API_URL", "E2B_DOMAIN", "E2B_SANDBOX_URL")
_OPTIONS = ("api_key", "api_url", "domain", "sandbox_url", "debug")


def is_wanted(options: Mapping[str, object]) -> bool:
    """Whether a call with these options means the host on this machine."""
    if any(options.get(name) for name in _OPTIONS):
        return False
    if os.environ.get("E2B_DEBUG", "").lower() == "true":
        return False
    return not any(os.environ.get(name) for name in _VARIABLES)


def data_directory() -> Path:
    """Where the host of this user keeps everything."""
    chosen = os.environ.get("CODE_INTERPRETER_DATA_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME", "").strip() or "~/.local/share"
    return Path(base).expanduser() / "code-interpreter"


class EmbeddedByDefault(ClientFactory):
    """Sends the calls of a class to the host on this machine if nothing says otherwise."""

    @classmethod
    def _resolve_api_params(cls, **opts: Unpack[ApiParams]) -> ApiParams:
        params = super()._resolve_api_params(**opts)
        if not is_wanted(params):
            return params
        host = find_or_start()
        _keep_from_proxies(host)
        where = {"api_url": host.url, "sandbox_url": host.url, "api_key": host.api_key}
        return cast(ApiParams, {**params, **where})


def _keep_from_proxies(host: HostFile) -> None:
    """A proxy of the environment cannot reach this machine's loopback address for us.

    The SDK's transports take it from the environment alone, so that is where it is said.
    """
    name = urlsplit(host.url).hostname or ""
    if not any(urllib.request.getproxies_environment().values()):
        return
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if excepted != "*" and name not in excepted.split(","):
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = f"{excepted},{name}".lstrip(",")


_known: tuple[Path, tuple[int, int], HostFile] | None = None
_starting = threading.Lock()


def find_or_start() -> HostFile:
    """The host of this user, started if it does not run. Raises `EmbeddedHostException`.

    Blocks while the host starts: a second, or minutes if it has to make its template first.
    """
    directory = data_directory()
    with _starting:
        return _remembered(directory) or find(directory) or _start(directory)


async def prepare(*options: Mapping[str, object]) -> None:
    """`find_or_start`, without holding up the event loop, if a call with these options means it."""
    if all(map(is_wanted, options)) and _remembered(data_directory()) is None:
        await asyncio.to_thread(find_or_start)


def revive(url: str) -> bool:
    """Start the host of this user again if it answered at ``url`` and has crashed.

    Its sandboxes live on, and the next host takes them over. False: no such host crashed.
    Raises `EmbeddedHostException`. Blocks while the host starts.
    """
    directory = data_directory()
    crashed = _read(directory)
    if crashed is None or not crashed.embedded or crashed.url != url:
        return False
    with _starting:
        host = find(directory) or _start(directory)
    if host.url != url:
        raise EmbeddedHostException(
            f"the host on this machine crashed, and its port was taken: it runs at {host.url} "
            f"now, where Sandbox.connect finds the sandboxes that were at {url}"
        )
    return True


def keep_alive(url: str) -> None:
    """`revive`, for a price that can be paid before each call: one look at a process.

    On an event loop too: only a crash makes it block, and then nothing else would go on.
    """
    known = _known
    if known is not None and known[2].url == url and not _is_alive(known[2].pid):
        revive(url)


def find(directory: Path) -> HostFile | None:
    """The host that runs on this data directory; None if there is none."""
    global _known
    host = _read(directory)
    if host is None or not _is_healthy(host):
        return None
    _known = (directory, _stamp(directory), host)
    return host


def _remembered(directory: Path) -> HostFile | None:
    """The host that was found before, if its file is the same and its process is alive."""
    if _known is None or _known[0] != directory or _known[1] != _stamp(directory):
        return None
    return _known[2] if _is_alive(_known[2].pid) else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _stamp(directory: Path) -> tuple[int, int]:
    try:
        status = (directory / "host.json").stat()
    except OSError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)


def _read(directory: Path) -> HostFile | None:
    try:
        return HostFile.model_validate_json((directory / "host.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return None
    except OSError as error:
        raise EmbeddedHostException(
            f"{directory / 'host.json'} cannot be read ({error.strerror}): let CODE_INTERPRETER_"
            "DATA_DIR name a directory of your own"
        ) from error


def _is_healthy(host: HostFile) -> bool:
    address = urlsplit(host.url)
    patience = HEALTH_SECONDS if _is_alive(host.pid) else STRANGER_SECONDS
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=patience)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status in (200, 204)  # 200: its disk is short
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _start(directory: Path) -> HostFile:
    _check_platform()
    _make(directory)
    watch = _Watch(directory)
    with contextlib.closing(watch), (directory / "start.lock").open("a") as lock:
        # Whoever holds the lock starts the host; the others find it once it runs.
        while not _try_lock(lock):
            host = find(directory)
            if host is not None:
                return host
            watch.wait()
        return find(directory) or _spawn(directory, watch)


def _check_platform() -> None:
    if sys.platform != "linux":
        raise EmbeddedHostException(
            f"sandboxes need Linux, and this is {sys.platform}: run `code-interpreter serve` on "
            "a Linux machine and set the E2B_* variables here to what it prints"
        )
    if importlib.util.find_spec("code_interpreter.cli") is None or not sys.executable:
        raise EmbeddedHostException(
            "this installation cannot start a host: pip install 'code-interpreter[host]'"
        )


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (directory / "start.lock").open("a"):
            pass
    except OSError as error:
        raise EmbeddedHostException(
            f"the data directory {directory} cannot be written ({error.strerror}): let "
            "CODE_INTERPRETER_DATA_DIR name one that can"
        ) from error


def _try_lock(file: IO[str]) -> bool:
    import fcntl  # not on Windows, where everything else here can be imported

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _host_holds_lock(directory: Path) -> bool:
    """Whether a host that is not ready, or is about to stop, has the data directory."""
    with (directory / "host.lock").open("a") as lock:
        return not _try_lock(lock)


def _spawn(directory: Path, watch: _Watch) -> HostFile:
    while _host_holds_lock(directory):
        host = find(directory)
        if host is not None:
            return host
        watch.wait()
    log = directory / "host.log"
    process, log_start = _launch(directory, log)
    while True:
        host = find(directory)
        if host is not None:
            return host
        code = process.poll()
        if code is not None:
            raise EmbeddedHostException(_explain_exit(code, log, log_start))
        watch.wait()


def _launch(directory: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    command = [sys.executable, "-m", "code_interpreter.cli.main", "serve", "--embedded"]
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        start = output.tell()
        process = subprocess.Popen(
            [*command, *_port(directory)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=directory,
            env={**os.environ, "CODE_INTERPRETER_DATA_DIR": str(directory)},
        )
    # The host outlives this program, which may end without having waited for it.
    threading.Thread(target=process.wait, name="embedded host", daemon=True).start()
    return process, start


def _port(directory: Path) -> list[str]:
    """Any free port; that of a host that crashed, so that its sandboxes keep their address."""
    if os.environ.get("CODE_INTERPRETER_PORT"):
        return []
    crashed = _read(directory)
    port = urlsplit(crashed.url).port if crashed else None
    return ["--port", str(port if port and _is_free(port) else 0)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _explain_exit(code: int, log: Path, log_start: int) -> str:
    said = _tail(log, log_start)
    remedy = "`code-interpreter doctor` says what this machine lacks"
    if "code-interpreter[host]" in said or "ModuleNotFoundError" in said:
        remedy = "pip install 'code-interpreter[host]'"
    return (
        f"the host on this machine did not start (exit code {code}); {remedy}. "
        f"The end of {log}:\n{said or '(nothing)'}"
    )


def _tail(log: Path, start: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(start if start <= log.stat().st_size else 0)
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(_without_keys(text)[-LOG_LINES:])


def _without_keys(text: str) -> list[str]:
    return [line for line in text.splitlines() if "E2B_API_KEY=" not in line]


class _Watch:
    """Waits for a host to get ready, shows how far it is, and loses patience if it stalls."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "host-progress"
        self._began = self._changed = time.monotonic()
        self._said: str | None = None
        self._shown: str | None = None
        self._shown_at = -math.inf
        self._pauses = _pauses()

    def wait(self) -> None:
        """A short sleep. Raises `EmbeddedHostException` when nothing moved for too long."""
        time.sleep(next(self._pauses))
        now = time.monotonic()
        said = self._read()
        if said != self._said:
            self._said, self._changed = said, now
        if said != self._shown and self._is_due(now):
            self._show(said)
            self._shown, self._shown_at = said, now
        if now - self._changed > STALL_SECONDS:
            raise EmbeddedHostException(
                f"the host on this machine has not got ready, and has said nothing new for "
                f"{STALL_SECONDS:g} s (last: {said}): see {self._directory / 'host.log'}"
            )

    def close(self) -> None:
        if self._shown is not None and sys.stderr.isatty():
            print(file=sys.stderr, flush=True)

    def _read(self) -> str:
        try:
            return self._file.read_text(errors="replace").strip() or "starting"
        except OSError:
            return "starting"

    def _is_due(self, now: float) -> bool:
        if sys.stderr is None or now - self._began < QUIET_SECONDS:
            return False
        return sys.stderr.isatty() or now - self._shown_at >= LINE_SECONDS

    def _show(self, said: str) -> None:
        text = f"code-interpreter: {said}"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def _pauses() -> Iterator[float]:
    pause = 0.01
    while True:
        yield pause
        pause = min(0.1, pause * 1.3)


def place(*options: Mapping[str, object]) -> str | None:
    """The URL of the host on this machine, if a call with these options means it."""
    return find_or_start().url if all(map(is_wanted, options)) else None
