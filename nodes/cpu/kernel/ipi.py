"""Sending IPIs: an IPI is an ICR write and carries only its vector (arch/x86/kernel/apic/ipi.c).

One target: physical destination. Several: the all-but-self shorthand when that is who is meant,
else one logical destination where the kernel drives the APICs in the flat model (a bit for each of
8 CPUs), else one IPI each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bus.messages import IcrWrite
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import APIC

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ICR_ASSERT, ICR_LEVEL, ICR_LOGICAL = 1 << 14, 1 << 15, 1 << 11
ICR_ALL_BUT_SELF = 3 << 18
DELIVER_INIT, DELIVER_STARTUP = 5 << 8, 6 << 8
LOGICAL_CPUS = 8

_SENT = CPU_SCHEMA.index("ipi_sent")
_SEND = TRACEPOINTS["ipi_send"].number


def write_icr(cpu: Cpu, icr: int) -> None:
    """The register itself."""
    cpu.words[_SENT] += 1
    cpu.post(APIC, IcrWrite(icr))


def send_ipi(cpu: Cpu, target: int, vector: int) -> None:
    """Fixed, physical destination, edge; at most one of a kind to each CPU in a turn.

    What is posted in a turn leaves at its end, so one message announces every record queued until
    then: Linux sends none either while the target's need_resched is set already."""
    if (target, vector) in cpu.ipis_posted:
        return
    cpu.ipis_posted.append((target, vector))
    cpu.trace(_SEND, vector, target)
    write_icr(cpu, target << 56 | ICR_ASSERT | vector)


def send_ipi_mask(cpu: Cpu, targets: Sequence[int], vector: int) -> None:
    """Fixed, to several CPUs (never to this one), with as few ICR writes as there can be."""
    for target in targets:
        cpu.trace(_SEND, vector, target)
    cpus = cpu.machine.cpus
    if len(targets) == cpus - 1 > 1:
        write_icr(cpu, ICR_ALL_BUT_SELF | ICR_ASSERT | vector)
    elif cpus <= LOGICAL_CPUS and cpu.params.msi_destination == "logical":
        mask = sum(1 << target for target in targets)
        write_icr(cpu, mask << 56 | ICR_LOGICAL | ICR_ASSERT | vector)
    else:
        for target in targets:
            write_icr(cpu, target << 56 | ICR_ASSERT | vector)
