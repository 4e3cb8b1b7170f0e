"""`SandboxShell`: the IPython shell with our formatters, quick ``!commands`` and tracebacks."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ipykernel.compiler import XCachingCompiler
from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQExitAutocall, ZMQInteractiveShell
from IPython.core import page
from IPython.core.error import UsageError
from IPython.display import display
from traitlets import default

from sandbox_kernel import formatters, pictures
from sandbox_kernel.bounds import bounded, shortened
from sandbox_kernel.drawings import PLOTLY_MIME, from_plotly_bundle
from sandbox_kernel.streams import Stream
from sandbox_kernel.widgets import VIEW_MIME, ShownWidgets

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_NO_MODULE = ""
"""Not a name that `sys.modules` could have."""


class SandboxDisplayPublisher(ZMQDisplayPublisher):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._widgets = ShownWidgets()

    def publish(self, data: Any, metadata: Any = None, **options: Any) -> None:
        """Plotly's figures show themselves, past all formatters: their charts are added here."""
        if PLOTLY_MIME in data and "e2b/chart" not in data:
            data = {**data, "e2b/chart": from_plotly_bundle(data[PLOTLY_MIME])}
        if VIEW_MIME in data:
            options["transient"] = self._widgets.note(data, options.get("transient") or {})
        data, metadata = bounded(data, metadata)
        super().publish(data, metadata, **options)

    def update_widgets(self) -> None:
        """Tell the text of those widgets again that the cell has changed since it showed them."""
        for display_id, data in self._widgets.changed(self.shell.display_formatter):
            super().publish(data, transient={"display_id": display_id}, update=True)


class SandboxDisplayHook(ZMQShellDisplayHook):
    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        super().write_format_data(*bounded(format_dict, md_dict))


class _Nothing(defaultdict[int, Any]):
    """Forgets at once what it is given."""

    def __missing__(self, key: int) -> list[Any]:
        return []

    def __setitem__(self, key: int, value: Any) -> None:
        pass


class SandboxCompiler(XCachingCompiler):
    def get_code_name(self, raw_code: str, code: str, number: int) -> str:  # type: ignore[override]
        """Says right away that no module has this file.

        For each traceback `inspect.getmodule` would look through all modules for one, again
        and again: some milliseconds, once pandas is there.
        """
        name = super().get_code_name(raw_code, code, number)
        inspect.modulesbyfile[name] = _NO_MODULE
        return name


class Exit(ZMQExitAutocall):
    """``exit`` and ``quit`` end the cell, as `sys.exit` does, and not the kernel."""

    def __call__(self, *code: object) -> None:  # type: ignore[override]
        raise SystemExit(*code)


class SandboxShell(ZMQInteractiveShell):
    display_pub_class = SandboxDisplayPublisher
    displayhook_class = SandboxDisplayHook

    @default("exiter")
    def _default_exiter(self) -> Exit:
        return Exit(self)

    def init_hooks(self) -> None:
        """What ``name?`` says is shown: nobody here has a pager."""
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(_show), 0)

    def init_display_formatter(self) -> None:
        super().init_display_formatter()
        formatters.install(self.display_formatter)

    def init_history(self) -> None:
        """Past cells' outputs are not kept for ``%notebook``: all that is ever printed or shown
        would stay in memory, and each traceback be made twice."""
        super().init_history()
        self.history_manager.outputs = _Nothing()
        self.history_manager.exceptions = _Nothing()

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Would copy what is written to the history's outputs."""
        yield

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        super()._showtraceback(etype, shortened(str(evalue)), [shortened(part) for part in stb])

    def _format_exception_for_storage(self, exception: BaseException, **_: Any) -> dict[str, Any]:
        return {}

    def init_io(self) -> None:
        super().init_io()
        warnings.filterwarnings("ignore", "To exit: use")  # who calls sys.exit means it
        pictures.install()

    def enable_gui(self, gui: str | None = None) -> None:
        """There is no window, so there is no event loop of one."""
        if gui is not None:
            raise UsageError(f"A sandbox has no display for {gui}")

    def enable_matplotlib(self, gui: str | None = None) -> Any:
        """What wants a window is shown inline, so that notebooks from elsewhere run here."""
        widgets = gui in ("widget", "ipympl") and importlib.util.find_spec("ipympl") is not None
        if widgets or gui == "agg":
            return super().enable_matplotlib(gui)  # type: ignore[no-untyped-call]
        if gui not in (None, "inline"):
            told = f"A sandbox has no display for '%matplotlib {gui}': figures are shown inline."
            print(told, file=sys.stderr)
        return super().enable_matplotlib("inline")  # type: ignore[no-untyped-call]

    def init_profile_dir(self, profile_dir: Any) -> None:
        self.profile_dir = profile_dir

    def system(self, cmd: str) -> None:  # type: ignore[override]
        """Run a shell command; its output reaches the cell through descriptors 1 and 2."""
        command = ["/bin/sh", "-c", self.var_expand(cmd, depth=1)]
        sys.stdout.flush()
        if isinstance(sys.stdout, Stream):
            code = subprocess.call(command, stdin=subprocess.DEVNULL)
        else:
            code = _call_into_stdout(command)
        self.user_ns["_exit_code"] = code


def _show(text: str | dict[str, str], start: int = 0, screen_lines: int = 0) -> None:
    """What would go to a pager."""
    plain = text["text/plain"] if isinstance(text, dict) else text
    display({"text/plain": _STYLE.sub("", plain)}, raw=True)  # type: ignore[no-untyped-call]


def _call_into_stdout(command: list[str]) -> int:
    """For ``%%capture`` and ``redirect_stdout``, which want the text itself."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
        return process.wait()
