"""2.6.18: one global counter gives each irq one vector, the same on all CPUs.

Models assign_irq_vector of arch/x86_64/kernel/io_apic.c and assign_msi_vector of drivers/pci/msi.c.
The counter starts at 0x31 (the timer's) and goes up by 8 before each use, so that neighbours differ
in priority class; past the device range it begins again one higher. It never fails: when it is
round, pins get vectors that others have and share their irq. Message interrupts may not share: once
0xee has been given out they live on what is released, else EBUSY. Every irq from 16 up bears its
vector's number. i386 is the same, but its eighth turn is ENOSPC.

An affinity change leaves the vector alone: only the message's destination moves.
"""

from __future__ import annotations

from errno import EBUSY, ENOSPC

from nodes.cpu.kernel.irq.system_vectors import IA32_SYSCALL_VECTOR, NR_IRQS_LEGACY
from nodes.cpu.kernel.irq.vector import VECTOR_UNUSED, IrqCfg, Log, VectorSpace
from nodes.cpu.kernel.params import Params

TIMER_IRQ, CASCADE_IRQ = 0, 2
LAST_DEVICE_VECTOR = 0xEE
_STEP = 8


class GlobalVectors(VectorSpace):
    """``shares``: x86_64, vectors go round; else i386, they run out."""

    def __init__(
        self, params: Params, cpus: int, log: Log = lambda text: None, *, shares: bool = True
    ) -> None:
        super().__init__(params, cpus, log)
        self._shares = shares
        self._current = self.first_device
        self._offset = 0
        self._new_vector_avail = True
        self._released: list[int] = []
        self._all = (1 << cpus) - 1
        self._keep(TIMER_IRQ, self.first_device)
        for pin in range(1, NR_IRQS_LEGACY):  # routed at boot, as a board's tables have it
            if pin != CASCADE_IRQ:
                self._keep(pin, self.assign_irq_vector())

    def assign_irq_vector(self) -> int:
        """The counter's next vector; ENOSPC only on i386."""
        while True:
            self._current += _STEP
            if self._current == IA32_SYSCALL_VECTOR:
                continue
            if self._current >= self.devices_end:
                self._offset = (self._offset + 1) % _STEP
                if self._offset == 0 and not self._shares:
                    raise OSError(ENOSPC, "no free vector")
                self._current = self.first_device + self._offset
            return self._current

    def assign_pin(self, gsi: int) -> int:
        """gsi_irq_sharing: the irq of an I/O APIC pin; when vectors have run out it joins another.
        A vector of a pin below 16 is not for sharing: the next one is tried."""
        while True:
            vector = self.assign_irq_vector()
            owner = self.vector_irq[0][vector]
            if owner == VECTOR_UNUSED:
                self._keep(vector, vector)
                return vector
            if owner >= NR_IRQS_LEGACY:
                self.log(f"GSI {gsi} sharing vector 0x{vector:02X} and IRQ {owner}")
                return owner

    def pin_irq(self, gsi: int) -> int:
        return self.assign_pin(gsi)

    def assign_msi_vector(self) -> int:
        """A vector of its own, never one that is taken."""
        if self._new_vector_avail:
            vector = self.assign_irq_vector()
            if vector == LAST_DEVICE_VECTOR:
                self._new_vector_avail = False
            if self.vector_irq[0][vector] == VECTOR_UNUSED:
                return vector
        if not self._released:
            raise OSError(EBUSY, "no released vector")
        vector = min(self._released)
        self._released.remove(vector)
        return vector

    def msi_irq(self, lowest_free: int) -> int:
        vector = self.assign_msi_vector()
        self._keep(vector, vector)
        return vector

    def assign(self, irq: int, mask: int, online: int) -> bool:
        if irq not in self.cfg:
            self._keep(irq, irq)
            return True
        return False

    def release(self, irq: int) -> None:
        cfg = self.cfg.get(irq)
        if cfg is not None:
            self._released.append(cfg.vector)
        super().release(irq)

    def _keep(self, irq: int, vector: int) -> None:
        cfg = self.cfg[irq] = IrqCfg()
        cfg.vector, cfg.domain = vector, self._all
        self._map(vector, self._all, irq)
