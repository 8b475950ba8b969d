"""Files below /proc/irq that can be written: kernel/irq/proc.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.files import store
from nodes.cpu.kernel.irq.affinity import (
    write_default_smp_affinity,
    write_smp_affinity,
    write_smp_affinity_list,
)
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


@store("/proc/irq/{irq}/smp_affinity")
def irq_affinity_proc_write(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    return write_smp_affinity(cpu, int(groups["irq"]), text)


@store("/proc/irq/{irq}/smp_affinity_list")
def irq_affinity_list_proc_write(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    return write_smp_affinity_list(cpu, int(groups["irq"]), text)


@store("/proc/irq/default_smp_affinity")
def default_affinity_write(cpu: Cpu, _groups: dict[str, str], text: str) -> Context:
    return write_default_smp_affinity(cpu, text)
