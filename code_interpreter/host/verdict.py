"""What a machine's facts come to: which runtime, how well it isolates, in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from code_interpreter.host.facts import Fact, Standing
from code_interpreter.host.ids import is_machine_root
from code_interpreter.host.runtimes.base import Isolation
from code_interpreter.host.settings import RuntimeName


class Tier(StrEnum):
    FULL = "isolated, and limited in everything"
    PARTIAL = "isolated, with gaps"
    NONE = "no isolation"


_MEANING = {
    Tier.FULL: "Code in a sandbox has processes, files, users and a network of its own, and gets "
    "no more memory, cpu, processes and disk than it was given. All sandboxes share this "
    "machine's kernel: a hole in it is a hole in each of them.",
    Tier.PARTIAL: "Code in a sandbox has processes, files and a network of its own, and cannot "
    "touch yours; what is named below as missing is not held back. All sandboxes share this "
    "machine's kernel: a hole in it is a hole in each of them.",
    Tier.NONE: "Sandboxes cannot be made on this machine as it is. `--runtime process` runs code "
    "as you, on your files, without any limit: for development only.",
}
_LIMITS = ("privileges", "user ids", "control groups", "disk space")
"""Facts without which something that is promised to root is not held."""


@dataclass(frozen=True, slots=True)
class Verdict:
    runtime: RuntimeName | None
    """What ``--runtime auto`` is here; None if it does not start."""
    tier: Tier
    meaning: str
    sudo: str
    enforced: tuple[str, ...]
    missing: tuple[str, ...]
    strangers: str
    """Whether parties that distrust each other may share this machine."""
    next_steps: dict[str, str]
    """What would improve it → the facts that it improves."""


def judge(facts: Iterable[Fact], isolation: Isolation) -> Verdict:
    """``isolation`` is that of the namespaces runtime."""
    by_name = {fact.name: fact for fact in facts}
    tier = _tier(by_name)
    usable = tier is not Tier.NONE
    return Verdict(
        runtime=RuntimeName.NAMESPACES if usable else None,
        tier=tier,
        meaning=_MEANING[tier],
        sudo=_sudo(by_name["sudo in sandboxes"]) if usable else "no sandboxes",
        enforced=isolation.enforced if usable else (),
        missing=isolation.missing if usable else ("everything",),
        strangers=_strangers(tier, by_name["side channels"]),
        next_steps=_remedies(by_name.values()),
    )


def _tier(facts: dict[str, Fact]) -> Tier:
    if any(fact.standing is Standing.MISSING for fact in facts.values()):
        return Tier.NONE
    # Root without every capability still gives each sandbox all of its limits.
    held = [facts[name] for name in _LIMITS if name != "privileges" or not is_machine_root()]
    full = all(fact.standing is Standing.OK for fact in held)
    return Tier.FULL if full else Tier.PARTIAL


def _sudo(fact: Fact) -> str:
    return "works" if fact.standing is Standing.OK else fact.detail


def _strangers(tier: Tier, side_channels: Fact) -> str:
    if tier is not Tier.FULL:
        return "no: not with these gaps"
    if side_channels.standing is not Standing.OK:
        return f"no: {side_channels.detail}"
    return "only with a virtual machine for each party: within one, the kernel is shared"


def _remedies(facts: Iterable[Fact]) -> dict[str, str]:
    """What is missing first."""
    short = [fact for fact in facts if fact.standing in (Standing.MISSING, Standing.LIMITED)]
    short.sort(key=lambda fact: fact.standing is Standing.LIMITED)
    steps: dict[str, str] = {}
    for fact in short:
        if fact.remedy:
            earlier = steps.get(fact.remedy)
            steps[fact.remedy] = f"{earlier}, {fact.name}" if earlier else fact.name
    return steps
