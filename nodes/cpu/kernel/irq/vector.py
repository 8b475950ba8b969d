"""The vector space of the machine: which (CPU, vector) an interrupt has, had, and may have.

The boot CPU owns it: it allocates for all CPUs and tells each by a record what its ``vector_irq``
now holds. Behaviour ``vector_allocator`` picks the allocator: *step-8* (``vector_global``, 2.6.18),
*step-16* (``vector_domain``, up to 4.14) and *matrix* (``vector_matrix``, 4.15 and later). All keep
``vector_irq[cpu][vector]`` = irq number and one ``IrqCfg`` for each irq; errors are OSError with
the kernel's errno.

Sources: arch/x86/kernel/io_apic.c (2.6.18), apic/io_apic.c (3.10), apic/vector.c (6.1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from errno import EBUSY

from nodes.cpu.kernel.irq.system_vectors import NR_VECTORS, SYSTEM_VECTORS
from nodes.cpu.kernel.params import Params

VECTOR_UNUSED = -1

Log = Callable[[str], None]


def cpus_of(mask: int) -> Iterator[int]:
    """CPU numbers of a mask, ascending."""
    number = 0
    while mask:
        if mask & 1:
            yield number
        mask >>= 1
        number += 1


def cpu_mask(numbers: Iterable[int]) -> int:
    """A mask of CPU numbers."""
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


class IrqCfg:
    """struct irq_cfg (apic_chip_data): where one irq is mapped. Masks have a bit for each CPU."""

    __slots__ = ("domain", "move_in_progress", "old_domain", "old_vector", "reserved", "vector")

    def __init__(self) -> None:
        self.vector = 0  # 0: none
        self.domain = 0  # CPUs whose vector_irq holds it
        self.old_vector = 0
        self.old_domain = 0
        self.move_in_progress = False  # the old slots are not free yet
        self.reserved = False  # matrix: counted, has no vector yet

    def target(self, mask: int, online: int) -> int:
        """The CPU that a message for ``mask`` is addressed to: the first one that is mapped."""
        return next(cpus_of(mask & self.domain & online or self.domain & online), 0)


class VectorSpace(ABC):
    """What the allocators have in common."""

    def __init__(self, params: Params, cpus: int, log: Log = lambda text: None) -> None:
        layout = SYSTEM_VECTORS[params.system_vectors]
        self.first_device = layout.first_device
        self.devices_end = layout.devices_end
        self.cpus = cpus
        self.cfg: dict[int, IrqCfg] = {}
        self.log = log
        self.available = [0] * cpus  # free vectors, where the allocator counts them
        self.vector_irq = [[VECTOR_UNUSED] * NR_VECTORS for _ in range(cpus)]

    # -- what callers do

    def msi_irq(self, lowest_free: int) -> int:
        """Number for a new message-signalled irq: the lowest free one, where the era keeps numbers
        and vectors apart."""
        return lowest_free

    def pin_irq(self, gsi: int) -> int:
        """Number for the irq of an I/O APIC pin: the pin's own, where numbers and vectors are
        apart."""
        return gsi

    @abstractmethod
    def assign(self, irq: int, mask: int, online: int) -> bool:
        """Map ``irq`` for a CPU of ``mask``; True if its vector or the CPUs that know it changed.

        The slots it had stay mapped until ``complete_move``. ENOSPC: no vector; EBUSY: the last
        move is not complete."""

    def activate(self, irq: int, mask: int, online: int) -> None:
        """The first handler is there: from here on it needs a vector of its own."""
        self.assign(irq, mask, online)

    def complete_move(self, irq: int) -> None:
        """The old slots are free: nothing comes on them any more."""
        cfg = self.cfg.get(irq)
        if cfg is None or not cfg.move_in_progress:
            return
        self._unmap(cfg.old_vector, cfg.old_domain, irq)
        cfg.move_in_progress = False
        cfg.old_vector = cfg.old_domain = 0

    def abandon_move(self, irq: int) -> None:
        """The move was called off before the device learned of it: back to the old slots."""
        cfg = self.cfg[irq]
        assert cfg.move_in_progress
        vector, domain = cfg.vector, cfg.domain
        cfg.vector, cfg.domain = cfg.old_vector, cfg.old_domain
        cfg.old_vector, cfg.old_domain = vector, domain
        self.complete_move(irq)

    def release(self, irq: int) -> None:
        """clear_irq_vector: the irq and all its slots are gone."""
        cfg = self.cfg.pop(irq, None)
        if cfg is None:
            return
        self._unmap(cfg.vector, cfg.domain, irq)
        if cfg.move_in_progress:
            self._unmap(cfg.old_vector, cfg.old_domain, irq)

    # -- what the allocators use

    def _map(self, vector: int, domain: int, irq: int) -> None:
        for cpu in cpus_of(domain):
            self.vector_irq[cpu][vector] = irq

    def _unmap(self, vector: int, domain: int, irq: int) -> None:
        for cpu in cpus_of(domain):
            if self.vector_irq[cpu][vector] == irq:
                self.vector_irq[cpu][vector] = VECTOR_UNUSED
                self.available[cpu] += 1

    def _moved(self, cfg: IrqCfg, vector: int, domain: int) -> None:
        """``cfg`` lives at (vector, domain) now; what it leaves is cleaned up later."""
        left = cfg.domain if vector != cfg.vector else cfg.domain & ~domain
        cfg.old_vector, cfg.old_domain = cfg.vector, left
        cfg.move_in_progress = bool(left)
        cfg.vector, cfg.domain = vector, domain

    def _check_not_moving(self, cfg: IrqCfg) -> None:
        if cfg.move_in_progress:
            raise OSError(EBUSY, "the last move is not complete")


def vector_space(params: Params, cpus: int, log: Log = lambda text: None) -> VectorSpace:
    """The allocator of this era."""
    from nodes.cpu.kernel.irq.vector_domain import DomainVectors  # noqa: PLC0415
    from nodes.cpu.kernel.irq.vector_global import GlobalVectors  # noqa: PLC0415
    from nodes.cpu.kernel.irq.vector_matrix import MatrixVectors  # noqa: PLC0415

    kinds: dict[str, Callable[[Params, int, Log], VectorSpace]]
    kinds = {"step-8": GlobalVectors, "step-16": DomainVectors, "matrix": MatrixVectors}
    return kinds[params.vector_allocator](params, cpus, log)
