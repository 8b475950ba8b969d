"""Who is meant: destination of a message or IPI to the numbers of CPUs.

xAPIC, 8-bit destinations. The local APIC of CPU n has id n, and in the flat logical model the id
1 << n for n < 8; CPUs above have no logical id (LDR 0), as Linux leaves them in physical flat mode.
0xFF is everybody in physical mode, and in flat mode every CPU that has a logical id.

Lowest priority picks one of the set: the CPU that got the fewest such messages, the lowest number
if several did (as KVM arbitrates; the bus does not carry processor priorities).

Left out: cluster model, x2APIC, extended ids.
"""

from __future__ import annotations

BROADCAST = 0xFF
LOGICAL_CPUS = 8


class Destinations:
    """CPUs of one machine; also remembers who got lowest-priority messages."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._arbitrated = [0] * cpus

    def match(self, destination: int, logical: bool) -> tuple[int, ...]:
        """CPUs that match an 8-bit destination, in ascending order."""
        if logical:
            return tuple(n for n in range(min(self._cpus, LOGICAL_CPUS)) if destination >> n & 1)
        if destination == BROADCAST:
            return tuple(range(self._cpus))
        return (destination,) if destination < self._cpus else ()

    def arbitrate(self, cpus: tuple[int, ...]) -> tuple[int, ...]:
        """One of ``cpus``, or none."""
        if not cpus:
            return ()
        chosen = min(cpus, key=lambda n: (self._arbitrated[n], n))
        self._arbitrated[chosen] += 1
        return (chosen,)
