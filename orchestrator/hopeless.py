"""Waits that cannot end well, seen from outside: the kernel cannot know that a process was killed.

To a kernel a dead CPU is one that does not answer. On its way offline it is waited for, by a task
that no signal reaches, until the kernel gives up (``nodes.cpu.kernel.cpuhotplug``). Whoever typed
the command need not wait so long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.cpu.page import CPU_SCHEMA
from orchestrator.machines.machine import Machine

#: The CPU's last answer may still be on its way.
GRACE_NS = 1_000_000_000
#: How long a kernel without khungtaskd waits here (cpuhotplug.GIVE_UP_S).
GIVE_UP_S = 120


def dead_cpus(machine: Machine, numbers: Sequence[int]) -> list[str]:
    """Those of the CPUs whose process is dead; the boot CPU takes everything with it."""
    names = machine.settings.cpu_names
    return [
        names[number]
        for number in numbers
        if 0 < number < len(names) and not machine.state(names[number]).alive
    ]


def kernel_waits(machine: Machine, on: str = "") -> str:
    """What goes on in the machine when nobody waits for the command any more: a hint."""
    settings = machine.settings
    params = with_overrides(PRESETS[settings.era], settings.overrides)
    seconds = params.hung_task_timeout_secs or GIVE_UP_S
    waits = f"the kernel goes on waiting, {seconds} s in all"
    return f"{waits}; a CPU is back with the next machine: bottomhalf {on}down"


def never_goes(machine: Machine, numbers: Sequence[int]) -> Callable[[], str]:
    """For a command that takes these CPUs offline: in words why it will not end, or "".

    A CPU that has left the boot CPU's masks is not waited for long: the kernel's own word comes."""
    began_ns = machine.now_ns()
    boot = machine.ram.page(machine.settings.cpu_names[0], CPU_SCHEMA)

    def why() -> str:
        for name in dead_cpus(machine, numbers):
            since_ns = max(began_ns, machine.state(name).since_ns)
            waited_for = boot["cpu_callout"] >> machine.settings.cpu_names.index(name) & 1
            if waited_for and machine.now_ns() - since_ns >= GRACE_NS:
                return f"{name}'s process is dead ({machine.state(name).cause}): it never answers"
        return ""

    return why
