"""Templates: the read-only files below every sandbox, prepared once on this machine.

A template is not an image from a registry. Its root is made of files in ``template/root``
and a few of this machine's ``/etc``; ``/usr`` is this machine's own; ``/usr/local`` is a
virtual environment, made here, with the packages of ``template/python-packages.txt``. What
a template is made from decides its digest, so a change makes a new one beside the old.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from code_interpreter.host import own_sudo
from code_interpreter.host.ids import IdKind, id_grant, sandboxes_own_usr
from code_interpreter.host.old_templates import note_use, remove_unused
from code_interpreter.host.runtimes.base import TemplateMissing

NAMES = ("base", "code-interpreter-v1")
FRESH_SECONDS = 0.5
"""For which it is not looked again whether a template is what this machine has."""
PACKAGE_INSTALL_DEADLINE = 1800.0
"""Seconds for pip; a slow network must not look like a hang for ever."""
_PACKAGE = Path(__file__).resolve().parents[1]
_DIRECTORIES = (
    "code dev etc home/user media mnt opt/code-interpreter/code_interpreter "
    "opt/code-interpreter/kernels opt/code-interpreter/local opt/code-interpreter/stdlib "
    "opt/python proc root run/host/data srv sys tmp usr var/cache var/lib var/log var/tmp"
).split()
_OPEN_DIRECTORIES = ("code", "tmp", "var/tmp")
_EVERYBODYS = 0o777
# Of this machine's /etc: what its programs in /usr need to run, and nothing that tells
# who uses it. The rest of a sandbox's /etc is in template/root.
_FROM_ETC = (
    "R alternatives bash_completion.d ca-certificates ca-certificates.conf debian_version fonts "
    "java-11-openjdk java-17-openjdk java-21-openjdk ld.so.cache ld.so.conf ld.so.conf.d "
    "localtime login.defs magic mime.types os-release pam.conf pam.d protocols security services "
    "skel ssl/certs ssl/openssl.cnf terminfo timezone"
).split()

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PreparedTemplate:
    """Files of a template on this machine."""

    name: str
    directory: Path
    etc: str = ""
    """What was found in this machine's ``/etc``: programs installed later bring more."""

    @property
    def root(self) -> Path:
        return self.directory / f"root-{self.etc}"

    @property
    def local(self) -> Path:
        """What stands at ``/usr/local``."""
        return self.directory / "local"


def resources(name: str) -> Path:
    """``kernels`` or ``template``: beside the package in a checkout, else where pip put it."""
    for place in (_PACKAGE.parent / name, Path(sys.prefix, "share", "code-interpreter", name)):
        if place.is_dir():
            return place
    raise TemplateMissing(f"the folder {name!r} of this installation is missing; install it again")


def base_python() -> Path:
    """The real interpreter below any virtual environment."""
    executable = getattr(sys, "_base_executable", sys.executable)
    return Path(executable).resolve()


def python_is_in_usr() -> bool:
    prefix = Path(sys.base_prefix).resolve()
    return prefix == Path("/usr")


class TemplateStore:
    """The templates in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fresh: dict[str, tuple[float, PreparedTemplate]] = {}
        """By name: since when, and what was found."""

    def names(self) -> Collection[str]:
        return NAMES

    async def prepare(self, name: str, progress: Progress) -> PreparedTemplate:
        """Find or make the template's files. Safe to call from several processes at once.

        Raises `TemplateMissing` with the remedy.
        """
        if name not in NAMES:
            raise TemplateMissing(f"template {name!r} does not exist; there are {', '.join(NAMES)}")
        since, fresh = self._fresh.get(name, (0.0, None))
        if fresh is None or since < time.monotonic() - FRESH_SECONDS:
            fresh = await self._prepare(name, progress)
            self._fresh[name] = time.monotonic(), fresh
        return fresh

    async def _prepare(self, name: str, progress: Progress) -> PreparedTemplate:
        _check_machine()
        prepared = PreparedTemplate(name, self._directory / _digest(), etc_fingerprint())
        note_use(prepared.directory)
        if prepared.root.is_dir():
            return prepared
        self._directory.mkdir(parents=True, exist_ok=True)
        async with _locked(self._directory / "lock"):
            if not prepared.directory.is_dir():
                await self._make(prepared.directory, progress)
            if not prepared.root.is_dir():
                await asyncio.to_thread(_finish, prepared.root, _make_root)
        return prepared

    async def remove_unused(self) -> None:
        present = PreparedTemplate("", self._directory / _digest(), etc_fingerprint())
        await remove_unused(self._directory, present.root)

    async def _make(self, directory: Path, progress: Progress) -> None:
        unfinished = directory.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        # What is in it everybody may write to, who in a sandbox has a copy; here, only who owns it.
        unfinished.mkdir(mode=0o700)
        try:
            await _make_local(unfinished / "local", progress)
            if not sandboxes_own_usr():
                own_sudo.install(unfinished / "local")
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        unfinished.rename(directory)


def _check_machine() -> None:
    if not Path("/bin").is_symlink():
        raise TemplateMissing(
            "this machine keeps /bin apart from /usr/bin; sandboxes need a merged /usr "
            "(on Debian: apt-get install usrmerge)"
        )


@functools.cache
def _digest() -> str:
    """What the template is made from; read once, as the files of this installation are."""
    sources = resources("template")
    digest = hashlib.sha256()
    for item in ("5", sys.version, str(base_python()), id_grant().kind):
        digest.update(item.encode())
    if not sandboxes_own_usr():
        digest.update(Path(own_sudo.__file__).read_bytes() + str(own_sudo.problem()).encode())
    for path in sorted(sources.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(sources)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def etc_fingerprint(etc: Path = Path("/etc")) -> str:
    """Changes when something is installed that puts files where sandboxes take theirs from."""
    found = hashlib.sha256()
    for name in _FROM_ETC:
        with contextlib.suppress(OSError):
            found.update(f"{name} {os.lstat(f'{etc}/{name}').st_mtime_ns}\n".encode())
    return found.hexdigest()[:8]


def _finish(place: Path, make: Callable[[Path], None]) -> None:
    """Make a directory that is there only when it is complete."""
    unfinished = place.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make(unfinished)
    unfinished.rename(place)


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    with path.open("w") as handle:
        await asyncio.to_thread(fcntl.flock, handle, fcntl.LOCK_EX)
        yield


def make_bare(directory: Path) -> PreparedTemplate:
    """A template without packages: enough to try whether this machine can make a sandbox."""
    _check_machine()
    template = PreparedTemplate("bare", directory)
    (template.local / "bin").mkdir(parents=True)
    _relocate(template.local)
    _make_root(template.root)
    # Its view gives what is in it to other ids, whose files this user could not remove.
    shutil.rmtree(template.root / "home/user")
    (template.root / "home/user").mkdir()
    return template


# --- the root ---------------------------------------------------------------------------


def _make_root(root: Path) -> None:
    shutil.copytree(resources("template") / "root", root)
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in _OPEN_DIRECTORIES:
        (root / name).chmod(0o1777 if name != "code" else _EVERYBODYS)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())
    _copy_etc(root / "etc")
    if not python_is_in_usr():
        (root / "etc/ld.so.conf.d").mkdir(exist_ok=True)
        (root / "etc/ld.so.conf.d/00-python.conf").write_text("/opt/python/lib\n")
    (root / "etc/sudoers").chmod(0o440)
    (root / "etc/shadow").chmod(0o640)
    (root / "etc/gshadow").chmod(0o640)
    (root / "etc/mtab").symlink_to("/proc/self/mounts")
    (root / "etc/resolv.conf").write_text("")
    (root / "root").chmod(0o700)
    if id_grant().kind is IdKind.ALL:
        for path in (root / "home/user", *(root / "home/user").rglob("*")):
            os.chown(path, 1000, 1000)
    if not sandboxes_own_usr():
        own_sudo.configure(root / "etc", one_account=id_grant().kind is IdKind.SINGLE)


def _copy_etc(etc: Path) -> None:
    for name in _FROM_ETC:
        source, target = Path("/etc", name), etc / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(shutil.Error, FileNotFoundError, PermissionError):
            if source.is_symlink():
                target.symlink_to(source.readlink())
            elif source.is_dir():
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)


# --- /usr/local -------------------------------------------------------------------------


async def _make_local(local: Path, progress: Progress) -> None:
    progress("Preparing the sandbox template: making its Python environment")
    await _run(sys.executable, "-m", "venv", "--without-pip", str(local))
    packages = resources("template") / "python-packages.txt"
    python = str(local / "bin" / "python3")
    command = (sys.executable, "-m", "pip", "--python", python, "install")
    # A package that has to be built would run its own code here, with this user's rights.
    options = ("--no-input", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:")
    await _run(*command, *options, "-r", str(packages), progress=progress)
    progress("Preparing the sandbox template: compiling")
    await _compile(local)
    await asyncio.to_thread(_relocate, local)


async def _compile(local: Path) -> None:
    """What stays uncompiled costs every start of a host seconds: sandboxes keep no bytecode."""
    paths = ("-s", str(local), "-p", "/usr/local")  # the names that tracebacks show
    command = (str(local / "bin" / "python3"), "-m", "compileall", "-q", *paths)
    try:
        await _run(*command, "-j", "0", str(local / "lib"))
    except TemplateMissing:
        # A worker that dies ends such a run early. One by one, only what is no Python fails.
        await _run(*command, str(local / "lib"), check=False)


def _relocate(local: Path) -> None:
    """Make an environment that was made at ``local`` one that stands at ``/usr/local``."""
    inside = Path("/usr") if python_is_in_usr() else Path("/opt/python")
    base = inside / base_python().relative_to(Path(sys.base_prefix).resolve())
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        link = local / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(base)
    (local / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\n"
        f"version = {sys.version.split()[0]}\n"
    )
    for script in _scripts(local / "bin"):
        text = script.read_bytes()
        script.write_bytes(text.replace(bytes(local), b"/usr/local"))
    for name in ("sbin", "etc", "games", "include", "src", "share/man"):
        (local / name).mkdir(parents=True, exist_ok=True)
    _open_for_installers(local)


def _open_for_installers(local: Path) -> None:
    """``pip install`` works for every user of a sandbox, also over what is there already."""
    for directory, _, _ in os.walk(local):
        Path(directory).chmod(_EVERYBODYS)


def _scripts(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as handle:
                if handle.read(2) == b"#!" or path.name.lower().startswith("activate"):
                    yield path


async def _run(*command: str, progress: Progress | None = None, check: bool = True) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=_environment(),
    )
    try:
        async with asyncio.timeout(PACKAGE_INSTALL_DEADLINE):
            tail = await _follow(process, progress)
            code = await process.wait()
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    if check and code:
        raise TemplateMissing(
            f"preparing the sandbox template failed: {' '.join(command[:6])} … ended with {code}:\n"
            + "\n".join(tail)
        )


def _environment() -> dict[str, str]:
    """This host's variables without those that are for itself, such as its key, and those that
    let Python look for packages elsewhere: what is found there would not be installed."""
    own = ("CODE_INTERPRETER_", "E2B_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


async def _follow(process: asyncio.subprocess.Process, progress: Progress | None) -> list[str]:
    assert process.stdout is not None
    tail: list[str] = []
    async for line in process.stdout:
        text = line.decode(errors="replace").rstrip()
        tail = [*tail[-19:], text]
        if progress is not None and text.startswith(("Collecting", "Downloading", "Installing")):
            what, _, _ = text.partition(" (from ")
            progress(f"Preparing the sandbox template: {what[:100]}")
    return tail
