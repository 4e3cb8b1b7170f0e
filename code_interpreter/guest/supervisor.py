"""The two supervisor processes of a box, envd and the gateway, and how init starts them.

``python -m code_interpreter.guest.supervisor envd|gateway '<GuestConfig JSON>'`` is the
slow way, used when no fork server has their code in memory already.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import NoReturn

from code_interpreter.guest import rights, syscalls
from code_interpreter.guest.config import GuestConfig
from code_interpreter.guest.launch import arrange_descriptors, reset_signals
from code_interpreter.guest.packages import use_read_only_packages

MODULES = {
    "envd": "code_interpreter.envd.main",
    "gateway": "code_interpreter.gateway.main",
}


@dataclass(frozen=True, slots=True)
class Supervisor:
    name: str
    config: GuestConfig

    def descriptors(self) -> set[int]:
        config = self.config
        named = (
            config.listen_fd,
            config.ports_fd,
            config.kernel_starter_fd,
            config.user_namespace_fd,
        )
        return {descriptor for descriptor in named if descriptor is not None}

    def listeners(self) -> list[int]:
        """Descriptors at which its clients connect."""
        named = (self.config.listen_fd, self.config.ports_fd)
        return [descriptor for descriptor in named if descriptor is not None]

    def fork(self, log: int, *, warm: bool) -> int:
        """Start it as a child of this process and return its pid."""
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become(log, warm=warm)
        except BaseException as error:  # the child must never return into init
            os.write(2, f"{self.name} ended: {error!r}\n".encode(errors="replace"))
        finally:
            os._exit(1)

    def _become(self, log: int, *, warm: bool) -> None:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        arrange_descriptors((null, log, log), self.descriptors())
        reset_signals()
        if warm:
            use_read_only_packages()
            run(self.name, self.config)
        else:
            self._exec()

    def _exec(self) -> NoReturn:
        for descriptor in self.descriptors():
            os.set_inheritable(descriptor, True)
        if self.config.isolated:  # else what is executed counts as set-group-id: no capabilities
            syscalls.set_filesystem_ids(os.geteuid(), os.getegid())
        module = "code_interpreter.guest.supervisor"
        arguments = [sys.executable, "-m", module, self.name, self.config.dump()]
        os.execv(sys.executable, arguments)


def run(name: str, config: GuestConfig) -> None:
    if config.isolated:
        rights.lock_up_supervisor(name)
    importlib.import_module(MODULES[name]).run(config)


def main() -> None:
    name, config = sys.argv[1], GuestConfig.load(sys.argv[2])
    if config.isolated:
        syscalls.set_filesystem_ids(0, 0)
        syscalls.set_dumpable(False)
    run(name, config)


if __name__ == "__main__":
    main()
