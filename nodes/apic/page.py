"""The page of counters of the interrupt controller.

Three sums hold after each turn, over all sources and CPUs::

    msi_in + msi_copies = msi_routed + all msi_drop_*
    ipi_in + ipi_copies = ipi_routed + all ipi_drop_*
    intx_in + ioapic_again + ioapic_copies = intx_repeated + intx_shared + ioapic_masked
                                             + ioapic_held + ioapic_routed + all ioapic_drop_*

An Assert_INTx is one source; a message that a line sends again because it still stands is another.

``routed`` is what was handed over to a CPU; of it, ``lost_dead`` and ``lost_full`` (MSIs and IPIs
together) are those that the CPU's process did not take.
"""

from __future__ import annotations

from bus.ram import Field, Schema
from nodes.faults import FIELD as FAULTS
from nodes.machine import IOAPIC_PINS

CPUS_MAX = 64
NICS_MAX = 8
LAST_ROWS = 16
VECTORS = 256

#: Why a message to the interrupt window reached no CPU.
MSI_DROPS = (
    "msi_drop_window", "msi_drop_remappable", "msi_drop_mode", "msi_drop_no_target",
    "msi_lost_fault",
)  # fmt: skip
_MSI_DOC = {
    "msi_drop_window": "address outside 0xFEExxxxx",
    "msi_drop_remappable": "remappable format (address bit 4), and there is no remapper",
    "msi_drop_mode": "delivery mode reserved (3, 6)",
    "msi_drop_no_target": "no CPU has that destination",
    "msi_lost_fault": "fault lose-msi",
}
#: Why an ICR write reached no CPU.
IPI_DROPS = (
    "ipi_drop_mode", "ipi_drop_vector", "ipi_drop_shorthand", "ipi_drop_no_target",
    "ipi_drop_deassert",
)  # fmt: skip
_IPI_DOC = {
    "ipi_drop_mode": "delivery mode reserved (3, 7)",
    "ipi_drop_vector": "fixed with a vector below 16",
    "ipi_drop_shorthand": "mode that the shorthand does not allow",
    "ipi_drop_no_target": "no CPU has that destination",
    "ipi_drop_deassert": "INIT level de-assert: no effect since Pentium days",
}
#: IPIs by delivery mode.
IPI_KINDS = ("fixed", "lowest", "smi", "nmi", "init", "startup")
#: Why a message of the I/O APIC reached no CPU.
IOAPIC_DROPS = ("ioapic_drop_mode", "ioapic_drop_no_target")
_IOAPIC_DOC = {
    "ioapic_drop_mode": "delivery mode of the entry reserved (3, 6)",
    "ioapic_drop_no_target": "no CPU has that destination",
}
#: Number of each in the records of tracepoint ``drop``.
DROP_NUMBERS = {
    name: first + number
    for first, names in ((0, MSI_DROPS), (16, IPI_DROPS), (32, IOAPIC_DROPS))
    for number, name in enumerate(names)
}
#: Where an Assert_INTx ends that sends no message.
INTX_ENDS = ("intx_repeated", "intx_shared", "ioapic_masked", "ioapic_held")
_INTX_DOC = {
    "intx_repeated": "the wire was asserted already",
    "intx_shared": "another wire held the line already",
    "ioapic_masked": "the pin was masked: a level waits, an edge is lost",
    "ioapic_held": "remote IRR was set: the EOI looks again",
}

APIC_SCHEMA = Schema(
    (
        Field("msi_in", "interrupt messages taken, by NIC; others in the last word", NICS_MAX + 1),
        Field("msi_copies", "further copies of a message for further CPUs"),
        Field("msi_routed", "handed over, by CPU", CPUS_MAX),
        *(Field(name, _MSI_DOC[name]) for name in MSI_DROPS),
        Field("ipi_in", "ICR writes taken, by CPU", CPUS_MAX),
        Field("ipi_copies", "further copies of an IPI for further CPUs"),
        Field("ipi_routed", "handed over, by CPU", CPUS_MAX),
        *(Field(name, _IPI_DOC[name]) for name in IPI_DROPS),
        Field("intx_in", "Assert_INTx taken, by NIC", NICS_MAX),
        Field("intx_deassert_in", "Deassert_INTx taken, by NIC", NICS_MAX),
        *(Field(name, _INTX_DOC[name]) for name in INTX_ENDS),
        Field("ioapic_again", "messages for a line that still stands: at an EOI or a new entry"),
        Field("ioapic_copies", "further copies of a message for further CPUs"),
        Field("ioapic_routed", "handed over, by CPU", CPUS_MAX),
        *(Field(name, _IOAPIC_DOC[name]) for name in IOAPIC_DROPS),
        Field("eoi_in", "EOI broadcasts taken, by CPU", CPUS_MAX),
        Field("ioapic_reads", "register reads, by CPU", CPUS_MAX),
        Field("ioapic_writes", "register writes, by CPU", CPUS_MAX),
        Field("port_msi", "interrupt messages of the root ports, by slot; they enter ``msi_in`` as "
              "those of others", NICS_MAX),
        Field("port_accesses", "configuration requests of root ports taken, by CPU", CPUS_MAX),
        Field("slots", "by slot: 1 card present, 2 link active, 4 power", NICS_MAX),
        Field("redirection", "the I/O APIC's entries, 64 bits each", IOAPIC_PINS),
        Field("lines", "bit n: the line at pin n is active"),
        *(Field(f"ipi_{kind}", "IPIs of this kind sent on, copies included") for kind in IPI_KINDS),
        Field("lost_dead", "not taken: CPU's process dead, by CPU", CPUS_MAX),
        Field("lost_full", "not taken: CPU's queue full, by CPU", CPUS_MAX),
        Field("vectors", "handed over, by vector", VECTORS),
        Field("last_count", "rows ever written to ``last``"),
        Field("last", "ring of rows: time_ns, source | cpu << 16 | vector << 32 | mode << 40; "
              "source n is NIC n, 64 + n is CPU n, 128 + n is pin n, 255 others", 2 * LAST_ROWS),
        Field("msi_dup_fault", "taken once and counted among the copies: fault dup-msi"),
        Field("unexpected", "messages that mean nothing to an interrupt controller"),
        FAULTS,
    )
)  # fmt: skip
