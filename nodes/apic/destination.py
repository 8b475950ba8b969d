"""Who is meant: destination of a message or IPI to the numbers of CPUs.

Each local APIC compares the destination with its own registers; here that is done for all of them
by what each said last (``LocalApicId``). One that has said nothing yet stands as firmware leaves
it: id n, flat model, LDR with bit n for n < 8 and 0 (never matched) above.

==========  =====================================  ===========================================
            8 bits: messages, xAPIC IPIs           32 bits: IPIs of a CPU in x2APIC mode
==========  =====================================  ===========================================
physical    the id; 0xFF is everybody              the id; 0xFFFFFFFF is everybody
flat        LDR 31:24 has a bit of it              an x2APIC has no flat model
cluster     same 4-bit cluster, and a bit of the   same 16-bit cluster (31:16), and a bit of
            other four; 0xFF is everybody, cluster the other 16; 0xFFFFFFFF is everybody
            0xF is every cluster
==========  =====================================  ===========================================

A message can reach an x2APIC by 8 bits too: ids below 255, and logically cluster 0.

Lowest priority picks one of the set among those that software has enabled: the CPU that got the
fewest such messages, the lowest number if several did (as KVM arbitrates; the bus does not carry
processor priorities).

Left out: extended ids of hypervisors (address bits 11:5), the focus processor.
"""

from __future__ import annotations

from bus.messages import LocalApicId

BROADCAST, BROADCAST_X2 = 0xFF, 0xFFFF_FFFF
LOGICAL_CPUS = 8
MATCHES_KEPT = 1024


def at_power_on(number: int) -> LocalApicId:
    """What firmware leaves; software has still to enable it, but none says so before it does."""
    ldr = 1 << 24 + number if number < LOGICAL_CPUS else 0
    return LocalApicId(number, ldr, 1, 0, 1)


class Destinations:
    """CPUs of one machine; also remembers who got lowest-priority messages."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self.apics = [at_power_on(n) for n in range(cpus)]
        self._arbitrated = [0] * cpus
        self._matches: dict[tuple[int, bool, bool], tuple[int, ...]] = {}

    def learn(self, cpu: int, apic: LocalApicId) -> bool:
        """What a CPU's software wrote; True if it is news."""
        if self.apics[cpu] == apic:
            return False
        self.apics[cpu] = apic
        self._matches.clear()
        return True

    def match(self, destination: int, logical: bool, wide: bool = False) -> tuple[int, ...]:
        """CPUs that match a destination of 8 bits, or of 32 if ``wide``, in ascending order."""
        key = (destination, logical, wide)
        found = self._matches.get(key)
        if found is None:
            if len(self._matches) >= MATCHES_KEPT:
                self._matches.clear()
            found = self._matches[key] = tuple(
                n for n in range(self._cpus) if _matches(self.apics[n], destination, logical, wide)
            )
        return found

    def arbitrate(self, cpus: tuple[int, ...]) -> tuple[int, ...]:
        """One of ``cpus``, or none."""
        enabled = [n for n in cpus if self.apics[n].enabled]
        if not enabled:
            return ()
        chosen = min(enabled, key=lambda n: (self._arbitrated[n], n))
        self._arbitrated[chosen] += 1
        return (chosen,)


def _matches(apic: LocalApicId, destination: int, logical: bool, wide: bool) -> bool:
    everybody = destination == (BROADCAST_X2 if wide else BROADCAST)
    if not logical:
        return everybody or apic.apic_id == destination
    if apic.x2apic:
        same_cluster = apic.ldr >> 16 == destination >> 16
        return (everybody and wide) or (same_cluster and bool(apic.ldr & destination & 0xFFFF))
    ldr = apic.ldr >> 24
    if apic.flat:
        return bool(ldr & destination)
    same_cluster = ldr >> 4 == destination >> 4 or destination >> 4 == 0xF
    return everybody or (same_cluster and bool(ldr & destination & 0xF))
