"""3.10: a vector for each allocation domain, found by a search in steps of 16.

Models __assign_irq_vector of arch/x86/kernel/apic/io_apic.c. The domain is what the APIC driver
says: with flat logical destinations all (up to eight) CPUs, so that an irq has one number on all of
them and a change of affinity within the domain changes nothing here; with physical destinations one
CPU. The search starts behind the vector that was found last, whoever asked.
"""

from __future__ import annotations

from errno import ENOSPC

from nodes.cpu.kernel.apic import FLAT_CPUS_MAX
from nodes.cpu.kernel.irq.system_vectors import (
    FIRST_EXTERNAL_VECTOR,
    IA32_SYSCALL_VECTOR,
    ISA_IRQ_VECTOR,
    NR_IRQS_LEGACY,
)
from nodes.cpu.kernel.irq.vector import VECTOR_UNUSED, IrqCfg, Log, VectorSpace, cpus_of
from nodes.cpu.kernel.params import Params

_STEP = 16
_START = FIRST_EXTERNAL_VECTOR + 1
#: IRQ_MOVE_CLEANUP and the system call gate; the rest of used_vectors lies past devices_end.
_USED_VECTORS = (FIRST_EXTERNAL_VECTOR, IA32_SYSCALL_VECTOR)


class DomainVectors(VectorSpace):
    """``flat``: logical destinations, one domain."""

    def __init__(self, params: Params, cpus: int, log: Log = lambda text: None) -> None:
        super().__init__(params, cpus, log)
        self.flat = params.msi_destination == "logical" and cpus <= FLAT_CPUS_MAX
        self._current = _START
        self._offset = _START % _STEP
        for pin in range(NR_IRQS_LEGACY):  # the ISA pins, known to the boot CPU alone
            cfg = self.cfg[pin] = IrqCfg()
            cfg.vector, cfg.domain = ISA_IRQ_VECTOR + pin, 1
            self._map(cfg.vector, cfg.domain, pin)

    def allocation_domain(self, cpu: int) -> int:
        """vector_allocation_domain of the APIC driver."""
        return (1 << self.cpus) - 1 if self.flat else 1 << cpu

    def cpu_up(self, cpu: int) -> None:
        """__setup_vector_irq: a CPU that comes up learns the irqs whose domain contains it."""
        for irq, cfg in self.cfg.items():
            if cfg.domain >> cpu & 1:
                self.vector_irq[cpu][cfg.vector] = irq

    def assign(self, irq: int, mask: int, online: int) -> bool:
        cfg = self.cfg.setdefault(irq, IrqCfg())
        self._check_not_moving(cfg)
        for cpu in cpus_of(mask & online):
            domain = self.allocation_domain(cpu)
            if cfg.vector and not domain & ~cfg.domain:
                if domain == cfg.domain:
                    return False
                self._moved(cfg, cfg.vector, domain)  # shrinks: the rest is cleaned up
                cfg.move_in_progress = bool(cfg.old_domain & online)
                return True
            vector = self._search(domain & online)
            if vector is not None:
                self._map(vector, domain & online, irq)
                self._moved(cfg, vector, domain)
                cfg.move_in_progress = bool(cfg.old_domain & online)
                return True
        if not cfg.vector:
            del self.cfg[irq]
        raise OSError(ENOSPC, "no free vector")

    def _search(self, cpus: int) -> int | None:
        """The next vector that is free on all of ``cpus``; None when it has gone round."""
        vector, offset = self._current, self._offset
        while True:
            vector += _STEP
            if vector >= self.devices_end:
                offset = (offset + 1) % _STEP
                vector = FIRST_EXTERNAL_VECTOR + offset
            if vector == self._current:
                return None
            if vector in _USED_VECTORS:
                continue
            if all(self.vector_irq[cpu][vector] == VECTOR_UNUSED for cpu in cpus_of(cpus)):
                self._current, self._offset = vector, offset
                return vector
