"""What this machine can give to sandboxes, found by looking, each fact with its remedy.

`code-interpreter doctor` prints these. Nothing here changes the machine: namespaces, mounts
and control groups are tried out, and are gone at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from code_interpreter.host import facts_isolation, facts_limits, facts_other
from code_interpreter.host.facts import Fact
from code_interpreter.host.settings import Settings
from code_interpreter.host.trial import Trial


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    facts: tuple[Fact, ...]


def examine(settings: Settings, trial: Trial) -> tuple[Section, ...]:
    """Every fact, in the order of importance.

    The data directory has to be there. Where the trial made a
    sandbox, that is the proof; where not, things are tried one by one to find the reason.
    """
    return (
        Section(
            "isolation",
            (
                facts_isolation.system(),
                facts_isolation.sandbox(trial),
                facts_isolation.privileges(),
                facts_isolation.namespaces(trial),
                facts_isolation.user_namespaces(trial),
                facts_isolation.subordinate_ids(),
                facts_isolation.overlay(settings.data_dir, trial),
                facts_isolation.id_mapped_mounts(trial),
                facts_isolation.seccomp(trial),
                facts_other.side_channels(),
            ),
        ),
        Section(
            "limits",
            (
                facts_limits.control_groups(),
                facts_limits.disk_space(settings.data_dir),
                facts_limits.free_disk(settings),
                facts_limits.machine_settings(),
                facts_limits.swap(),
            ),
        ),
        Section("inside", (facts_other.tools(), facts_other.sudo())),
        Section(
            "of no use yet",
            (facts_other.landlock(), facts_other.kvm(), facts_other.criu()),
        ),
    )
