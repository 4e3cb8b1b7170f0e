"""Choosing the runtime, and the templates that go with it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from code_interpreter.host import kernel_settings
from code_interpreter.host.admission import memory_reserve
from code_interpreter.host.boxes import Templates
from code_interpreter.host.runtimes.base import RuntimeFailure, SandboxRuntime
from code_interpreter.host.settings import RuntimeName, Settings


async def choose_runtime(
    settings: Settings, progress: Callable[[str], None]
) -> tuple[SandboxRuntime, Templates]:
    """Prepares the template as far as the runtime needs it. Raises `RuntimeFailure`."""
    if sys.platform != "linux":
        raise RuntimeFailure(
            f"sandboxes need Linux, and this is {sys.platform}: run the host in a Linux virtual "
            "machine or container, and point the client at it with E2B_API_URL"
        )
    if settings.runtime is RuntimeName.PROCESS:
        return _process(settings)
    return await _namespaces(settings, progress)


def _process(settings: Settings) -> tuple[SandboxRuntime, Templates]:
    from code_interpreter.host.runtimes.process import MachineAsTemplate, ProcessRuntime

    return ProcessRuntime(settings.data_dir), MachineAsTemplate()


async def _namespaces(
    settings: Settings, progress: Callable[[str], None]
) -> tuple[SandboxRuntime, Templates]:
    from code_interpreter.host.runtimes.namespaces import NamespacesRuntime
    from code_interpreter.host.templates import TemplateStore

    templates = TemplateStore(settings.templates_dir or settings.data_dir / "templates")
    prepared = await templates.prepare(settings.pool_template, progress)
    kernel_settings.raise_all()
    reserve = memory_reserve(settings)
    runtime = NamespacesRuntime(
        settings.data_dir,
        prepared,
        memory_reserve=reserve,
        fork_server=settings.fork_server,
        slowness=settings.slowness,
    )
    return runtime, templates
