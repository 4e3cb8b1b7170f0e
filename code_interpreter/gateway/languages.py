"""Languages by the names that clients use, and the kernelspecs that run them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFAULT = "python"
_ALIASES = {
    "": DEFAULT,
    "py": "python",
    "python3": "python",
    "ipython": "python",
    "ir": "r",
    "js": "javascript",
    "node": "javascript",
    "deno": "javascript",
    "ts": "typescript",
    "sh": "bash",
    "shell": "bash",
}
_SPECS = {"python": "python3", "typescript": "javascript", "r": "ir"}
"""Language → name of its kernelspec, where that is another."""


BARRIER = "code_interpreter_barrier"


class UnknownLanguage(LookupError):
    """No kernel for this language is installed; the message names those that are."""


@dataclass(frozen=True, slots=True)
class KernelSpec:
    name: str
    argv: tuple[str, ...]
    directory: Path
    file: dict[str, Any] = field(default_factory=dict)
    """All of ``kernel.json``."""
    env: dict[str, str] = field(default_factory=dict)
    transport: str = "ipc"
    interrupt: str = "signal"
    """``signal``: SIGINT; ``message``: a request on the control channel; ``none``: not at all."""
    settle: float = 0.0
    """Seconds that the kernel's output may come after its reply and ``idle``."""
    barrier: str | None = None
    """For a kernel whose output may come later still: code that has it send a message of
    type `BARRIER` after all output so far."""
    explain: str = ""
    """For a kernel whose replies do not say why a cell failed: code to go before the barrier
    then, that sends an ``error`` which does. ``{source}`` stands for the cell, in JSON."""
    set_variables: str | None = None
    """For a kernel that does not see them in a request's metadata: code that asks for changes
    of environment variables, as a cell asks for input, and makes them (`hidden_cells`)."""
    starts_with_variables: bool = True
    """Cells see the environment that their kernel was started with."""
    high_water: int = 8
    """Output messages that may wait in the gateway; many for a kernel that would drop them."""
    prelude: str | None = None
    """A hidden cell that every new kernel runs first."""
    operations: tuple[str, ...] = ()
    """What it does beside cells: ``variables``, ``export_table``."""
    warm: bool = False
    """True: the box's init can fork this kernel."""

    requires: tuple[str, ...] = ()
    """Programs, and files by their whole names, without which it cannot run."""
    install: str = ""
    """How to get what it requires, for people."""

    @property
    def interruptible(self) -> bool:
        return self.interrupt != "none"

    def missing(self) -> str | None:
        """The first thing that it requires and that is not here."""
        return next((each for each in self.requires if not _is_here(each)), None)

    def command(self, python: str, connection_file: str) -> list[str]:
        command = [
            argument.replace("{connection_file}", connection_file).replace(
                "{resource_dir}", str(self.directory)
            )
            for argument in self.argv
        ]
        if command[0] in ("python", "python3"):
            command[0] = python
        elif not shutil.which(command[0]):
            beside = Path(python).with_name(command[0])
            command[0] = str(beside) if beside.exists() else command[0]
        return command


class Languages:
    """The kernelspecs below ``<jupyter_path>/kernels``."""

    def __init__(self, jupyter_path: Path) -> None:
        self._directory = jupyter_path / "kernels"

    def normalise(self, name: str | None) -> str:
        """A client's word for a language as we name it: ``JS`` → ``javascript``."""
        wanted = (name or "").strip().lower()
        return _ALIASES.get(wanted, wanted)

    def spec(self, language: str) -> KernelSpec:
        """Raises `UnknownLanguage`. ``language`` is one of ours (see `normalise`)."""
        name = _SPECS.get(language, language)
        file = self._directory / name / "kernel.json"
        spec = _read(file) if Path(name).name == name and file.is_file() else None
        if spec is None:
            raise UnknownLanguage(f"No kernel for language '{language}'. {self._there_are()}")
        missing = spec.missing()
        if missing is not None:
            raise UnknownLanguage(
                f"No kernel for language '{language}': {missing} is not installed. "
                f"{spec.install} {self._there_are()}"
            )
        return spec

    def _there_are(self) -> str:
        return f"There are: {', '.join(self.names())}"

    def specs(self) -> list[KernelSpec]:
        """Those that can be used here."""
        read = map(_read, sorted(self._directory.glob("*/kernel.json")))
        return [spec for spec in read if spec.missing() is None]

    def names(self) -> list[str]:
        specs = {spec.name for spec in self.specs()}
        names = {language for language, spec in _SPECS.items() if spec in specs}
        return sorted(names | (specs - set(_SPECS.values()) | ({"javascript"} & specs)))


def _read(file: Path) -> KernelSpec:
    data: dict[str, Any] = json.loads(file.read_text())
    ours = data.get("metadata", {}).get("code_interpreter", {})
    return KernelSpec(
        name=file.parent.name,
        argv=tuple(data["argv"]),
        directory=file.parent,
        file=data,
        env=dict(data.get("env", {})),
        transport=ours.get("transport", "ipc"),
        interrupt=data.get("interrupt_mode", "signal"),
        barrier=ours.get("barrier"),
        explain=ours.get("explain", ""),
        settle=float(ours.get("settle_seconds", 0.0)),
        set_variables=ours.get("set_variables"),
        starts_with_variables=bool(ours.get("starts_with_variables", True)),
        high_water=int(ours.get("high_water", 8)),
        prelude=(file.parent / ours["prelude"]).read_text() if "prelude" in ours else None,
        operations=tuple(ours.get("operations", ())),
        warm=bool(ours.get("warm", False)),
        requires=tuple(ours.get("requires", ())),
        install=ours.get("install", ""),
    )


def _is_here(required: str) -> bool:
    if required.startswith("/"):
        return Path(required).exists()
    return shutil.which(required) is not None
