"""Which CPUs an interrupt may go to, and which one it goes to: kernel/irq/manage.c, proc.c.

The boot CPU holds the masks, as it holds the vector space. ``affinity`` is what was asked for,
``pending`` what was asked for last and waits for the next interrupt, ``target`` where messages go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.irq.vector import cpu_mask

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


@dataclass
class IrqAffinity:
    """The affinity of one irq; masks have a bit for each CPU."""

    affinity: int
    hint: int = 0
    target: int = 0
    pending: int | None = None
    chosen: bool = False  # IRQD_AFFINITY_SET: somebody wrote it
    node: int = -1

    def shown(self, *, pending_counts: bool) -> int:
        """What smp_affinity says."""
        return self.pending if pending_counts and self.pending is not None else self.affinity


@dataclass
class Affinities:
    """Of all irqs; on the boot CPU."""

    default: int = 0  # irq_default_affinity
    irqs: dict[int, IrqAffinity] = field(default_factory=dict)

    def rows(self, cpu: Cpu) -> dict[int, dict[str, Any]]:
        """For /proc/irq."""
        counts = cpu.params.affinity_write != "always-later"
        found = {}
        for irq, state in sorted(self.irqs.items()):
            desc = cpu.irq.desc.get(irq)
            if desc is not None:
                found[irq] = {
                    "affinity": packed(state.shown(pending_counts=counts)),
                    "effective": packed(1 << state.target),
                    "hint": packed(state.hint),
                    "node": state.node,
                    "target": state.target,
                    "actions": [action.name for action in desc.actions],
                }
        return found


def packed(mask: int) -> bytes:
    """A mask as a snapshot carries it: 32 bytes, the lowest CPU first."""
    return mask.to_bytes(32, "little")


def all_cpus(cpu: Cpu) -> int:
    """cpu_possible_mask as a freshly made irq has it: CPU_MASK_ALL where masks are NR_CPUS wide."""
    return (1 << cpumask_bits(cpu)) - 1


def cpumask_bits(cpu: Cpu) -> int:
    """Bits of a CPU mask as it is printed: NR_CPUS or nr_cpu_ids."""
    return cpu.params.cpumask_bits or cpu.machine.cpus


def online_mask(cpu: Cpu) -> int:
    return cpu_mask(cpu.online_cpus)


def nr_irqs(cpu: Cpu) -> int:
    """How many irq numbers there may be, as arch_probe_nr_irqs finds with 24 pins."""
    params, cpus = cpu.params, cpu.machine.cpus
    return min(256 * cpus, params.nr_irqs_base + params.nr_irqs_per_cpu * cpus)


def setup_affinity(cpu: Cpu, irq: int, mask: int, *, hint: int = 0) -> IrqAffinity:
    """irq_setup_affinity and irq_set_affinity_hint for a new irq; what somebody chose for it
    before stays as long as one of those CPUs is online."""
    old = cpu.affinity.irqs.get(irq)
    if old is not None and old.chosen and old.affinity & online_mask(cpu):
        mask = old.affinity
    state = cpu.affinity.irqs[irq] = IrqAffinity(mask, hint, chosen=old is not None and old.chosen)
    return state
