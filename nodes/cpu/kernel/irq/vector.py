"""Vectors of the CPUs: which one an interrupt gets, after arch/x86/kernel/apic.

Behaviour ``vector_allocator``: *matrix* (4.15 and later) takes the lowest free vector of the chosen
CPU; *step-16* walks from 0x41 in steps of 16, so that neighbours differ in priority class, and a
number is taken on all CPUs (flat mode's domain); *step-8* (2.6.18) has one global counter in steps
of 8. The boot CPU allocates for all CPUs. Migration and 2.6.18's sharing of vectors come with the
interrupt issue; running out is an error here.
"""

from __future__ import annotations

from nodes.cpu.kernel.params import Params

SYSCALL_VECTOR = 0x80
_CASCADE = 0x32
_SYSTEM_FIRST = 0xEC
_DEVICES_END = 0xEF


class VectorSpace:
    """Allocated device vectors: by CPU, or (step allocators) one number for all CPUs."""

    def __init__(self, params: Params) -> None:
        self._kind = params.vector_allocator
        self._order = _ORDER[self._kind](params.first_device_vector)
        self._used: dict[int, list[int]] = {}
        self._last: int | None = None

    def allocate(self, cpu: int) -> int:
        """A free vector of ``cpu``; OSError(ENOSPC) when there is none."""
        taken = self._used.setdefault(self._domain(cpu), [])
        for vector in self._candidates():
            if vector not in taken:
                taken.append(vector)
                self._last = vector
                return vector
        raise OSError(28, "no free vector")

    def free(self, cpu: int, vector: int) -> None:
        self._used[self._domain(cpu)].remove(vector)

    def _domain(self, cpu: int) -> int:
        return cpu if self._kind == "matrix" else 0

    def _candidates(self) -> list[int]:
        if self._kind == "matrix" or self._last is None:
            return self._order
        start = self._order.index(self._last) + 1  # the search goes on where it ended
        return self._order[start:] + self._order[:start]


def _lowest_first(first: int) -> list[int]:
    return [v for v in range(first, _SYSTEM_FIRST) if v not in (SYSCALL_VECTOR, _CASCADE)]


def _steps_of_16(first: int) -> list[int]:
    """From ``first`` up in steps of 16, then the next column; the ISA pins hold 0x30 to 0x3f."""
    column = first & 0xF
    starts = [0x20 + (column + i) % 16 for i in range(16)]
    order = [v for start in starts for v in range(start, _DEVICES_END, 16)]
    free = [v for v in order if v not in (0x20, SYSCALL_VECTOR) and not 0x30 <= v < 0x40]
    return [v for v in free if v != 0x20 + column] + [0x20 + column]


def _steps_of_8(first: int) -> list[int]:
    """From ``first`` in steps of 8; the timer has the first, boot gave the ISA pins fourteen."""
    order = [v for i in range(8) for v in range(first + i, _DEVICES_END, 8) if v != SYSCALL_VECTOR]
    return order[15:]


_ORDER = {"matrix": _lowest_first, "step-16": _steps_of_16, "step-8": _steps_of_8}
