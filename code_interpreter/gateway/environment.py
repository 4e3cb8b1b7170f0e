"""The sandbox's environment variables, which change while kernels live."""

from __future__ import annotations


class SandboxEnvironment:
    """Numbered states; a kernel knows the number of the state that it has."""

    def __init__(self) -> None:
        self._states: list[dict[str, str]] = [{}]

    @property
    def version(self) -> int:
        return len(self._states) - 1

    @property
    def variables(self) -> dict[str, str]:
        return self._states[-1]

    def replace(self, variables: dict[str, str]) -> None:
        if variables != self._states[-1]:
            self._states.append(dict(variables))

    def changes_since(self, version: int) -> dict[str, str | None]:
        """What to set and (None) what to remove to get from that state to the present one."""
        before = self._states[version] if version >= 0 else {}
        gone: dict[str, str | None] = {name: None for name in before if name not in self.variables}
        return gone | self.variables
