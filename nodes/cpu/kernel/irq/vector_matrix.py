"""4.15 and later: a bitmap of vectors for each CPU; the emptiest CPU, its lowest free vector.

Models kernel/irq/matrix.c and arch/x86/kernel/apic/vector.c. Allocating an irq only *reserves*: its
vector reads MANAGED_IRQ_SHUTDOWN and the machine's free vectors are counted down in thought; the
first request_irq activates it and gives it a real one, in its affinity if that has room, else
anywhere, with a word in the log. An irq has one target CPU. Left out: managed interrupts, NUMA
nodes (one node, so they are no further try), legacy pins (no device here uses one).
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOSPC

from nodes.cpu.kernel.irq.system_vectors import (
    FIRST_EXTERNAL_VECTOR,
    IA32_SYSCALL_VECTOR,
    ISA_IRQ_VECTOR,
    SYSTEM_VECTORS,
)
from nodes.cpu.kernel.irq.vector import VECTOR_UNUSED, IrqCfg, Log, VectorSpace, cpus_of
from nodes.cpu.kernel.params import Params

CASCADE_VECTOR = ISA_IRQ_VECTOR + 2
#: Slots of the matrix that belong to the system.
_SYSTEM = (FIRST_EXTERNAL_VECTOR, IA32_SYSCALL_VECTOR, CASCADE_VECTOR)


class MatrixVectors(VectorSpace):
    """``available[cpu]`` free vectors of each CPU; ``reserved`` irqs wait for one."""

    def __init__(self, params: Params, cpus: int, log: Log = lambda text: None) -> None:
        super().__init__(params, cpus, log)
        self._order = [
            v for v in range(FIRST_EXTERNAL_VECTOR, self.devices_end) if v not in _SYSTEM
        ]
        self.available = [len(self._order)] * cpus
        self.reserved = 0
        layout = SYSTEM_VECTORS[params.system_vectors]
        self.shutdown_vector = layout.vectors["MANAGED_IRQ_SHUTDOWN"]

    def reserve(self, irq: int, online: int) -> None:
        """reserve_irq_vector: count it, give it no vector."""
        if self.reserved == sum(self.available[cpu] for cpu in cpus_of(online)):
            self.log("Interrupt reservation exceeds available resources")
        self.reserved += 1
        cfg = self.cfg[irq] = IrqCfg()
        cfg.reserved, cfg.vector = True, self.shutdown_vector

    def activate(self, irq: int, mask: int, online: int) -> None:
        """activate_reserved: the affinity first, then every online CPU."""
        if irq not in self.cfg:
            self.reserve(irq, online)
        try:
            self.assign(irq, mask, online)
        except OSError:
            self.assign(irq, online, online)
            if not self.cfg[irq].domain & mask:
                self.log(f"irq {irq}: Affinity broken due to vector space exhaustion.")

    def assign(self, irq: int, mask: int, online: int) -> bool:
        cfg = self.cfg.get(irq)
        if cfg is None:
            cfg = IrqCfg()
        elif cfg.domain & mask & online:
            return False  # where it is will do
        if cfg.move_in_progress:
            raise OSError(EBUSY, "the last move is not complete")
        if not mask & online:
            raise OSError(EINVAL, "no CPU of the mask is online")
        cpu, vector = self._alloc(mask & online)
        if cfg.reserved:
            cfg.reserved, cfg.vector = False, 0
            self.reserved -= 1
        self.cfg[irq] = cfg
        self._map(vector, 1 << cpu, irq)
        self.available[cpu] -= 1
        left = cfg.domain
        self._moved(cfg, vector, 1 << cpu)
        if left and not left & online:
            self.complete_move(irq)
        return True

    def _moved(self, cfg: IrqCfg, vector: int, domain: int) -> None:
        """The CPU changes, so the old slot is another one even if it has the same number."""
        cfg.old_vector, cfg.old_domain = cfg.vector, cfg.domain
        cfg.move_in_progress = bool(cfg.domain)
        cfg.vector, cfg.domain = vector, domain

    def release(self, irq: int) -> None:
        cfg = self.cfg.get(irq)
        if cfg is not None and cfg.reserved:
            self.reserved -= 1
        super().release(irq)

    def deactivate(self, irq: int, online: int) -> None:
        """The last handler went: the vector is free, the reservation is back."""
        self.release(irq)
        self.reserve(irq, online)

    def _alloc(self, cpus: int) -> tuple[int, int]:
        """irq_matrix_alloc: (CPU with most available, its lowest free vector)."""
        best = max(cpus_of(cpus), key=lambda cpu: (self.available[cpu], -cpu))
        if self.available[best] > 0:
            slots = self.vector_irq[best]
            for vector in self._order:
                if slots[vector] == VECTOR_UNUSED:
                    return best, vector
        raise OSError(ENOSPC, "no free vector")
