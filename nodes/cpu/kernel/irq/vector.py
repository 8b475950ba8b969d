"""Vectors of the CPUs: which one an interrupt gets, after arch/x86/kernel/apic.

Behaviour ``vector_allocator``: *matrix* (4.15 and later) takes the lowest free vector of the chosen
CPU; *step-16* walks from 0x41 in steps of 16 so that neighbours differ in priority class; *step-8*
(2.6.18) has one global counter in steps of 8. The boot CPU allocates for all CPUs. Exhaustion and
migration come with the interrupt issue; running out is an error here.
"""

from __future__ import annotations

from nodes.cpu.kernel.params import Params

SYSCALL_VECTOR = 0x80
_SYSTEM_FIRST = 0xEC


class VectorSpace:
    """Allocated device vectors, by CPU."""

    def __init__(self, params: Params) -> None:
        self._first = params.first_device_vector
        self._kind = params.vector_allocator
        self._used: dict[int, list[int]] = {}
        self._last = 0

    def allocate(self, cpu: int) -> int:
        """A free vector of ``cpu``; OSError(ENOSPC) when there is none."""
        taken = self._used.setdefault(cpu, [])
        for vector in self._candidates():
            if vector != SYSCALL_VECTOR and vector not in taken:
                taken.append(vector)
                if self._kind == "step-8":
                    for other in self._used.values():
                        if vector not in other:
                            other.append(vector)
                self._last = vector
                return vector
        raise OSError(28, "no free vector")

    def free(self, cpu: int, vector: int) -> None:
        self._used[cpu].remove(vector)

    def _candidates(self) -> list[int]:
        if self._kind == "matrix":
            return list(range(self._first, _SYSTEM_FIRST))
        if self._kind == "step-16":
            columns = [list(range(0x31 + i, 0xEF, 16)) for i in range(16)]
            order = [v for column in columns for v in column]
            return [v for v in order if v >= self._first or v & 0xF != self._first & 0xF]
        order = [v for i in range(8) for v in range(self._first + i, 0xEF, 8)][1:]
        # boot gave the ISA pins the first fourteen
        order = order[14:]
        start = order.index(self._last) + 1 if self._last in order else 0
        return order[start:] + order[:start]
