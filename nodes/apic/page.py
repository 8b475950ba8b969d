"""The page of counters of the interrupt controller.

Two sums hold after each turn, over all sources and CPUs::

    msi_in + msi_copies = msi_routed + all msi_drop_*
    ipi_in + ipi_copies = ipi_routed + all ipi_drop_*

``routed`` is what was handed over to a CPU; of it, ``lost_dead`` and ``lost_full`` (MSIs and IPIs
together) are those that the CPU's process did not take.
"""

from __future__ import annotations

from bus.ram import Field, Schema
from nodes.faults import FIELD as FAULTS

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
    "msi_drop_mode": "delivery mode reserved (3, 6), SMI or ExtINT",
    "msi_drop_no_target": "no CPU has that destination",
    "msi_lost_fault": "fault lose-msi",
}
#: Why an ICR write reached no CPU.
IPI_DROPS = (
    "ipi_drop_mode", "ipi_drop_vector", "ipi_drop_shorthand", "ipi_drop_no_target",
    "ipi_drop_deassert",
)  # fmt: skip
_IPI_DOC = {
    "ipi_drop_mode": "delivery mode reserved (3, 7) or SMI",
    "ipi_drop_vector": "fixed with a vector below 16",
    "ipi_drop_shorthand": "mode that the shorthand does not allow",
    "ipi_drop_no_target": "no CPU has that destination",
    "ipi_drop_deassert": "INIT level de-assert: no effect since Pentium days",
}
#: IPIs by delivery mode.
IPI_KINDS = ("fixed", "lowest", "nmi", "init", "startup")

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
        *(Field(f"ipi_{kind}", "IPIs of this kind sent on, copies included") for kind in IPI_KINDS),
        Field("lost_dead", "not taken: CPU's process dead, by CPU", CPUS_MAX),
        Field("lost_full", "not taken: CPU's queue full, by CPU", CPUS_MAX),
        Field("vectors", "handed over, by vector", VECTORS),
        Field("last_count", "rows ever written to ``last``"),
        Field("last", "ring of rows: time_ns, source | cpu << 16 | vector << 32 | mode << 40; "
              "source n is NIC n, 64 + n is CPU n, 255 others", 2 * LAST_ROWS),
        Field("msi_dup_fault", "taken once and counted among the copies: fault dup-msi"),
        Field("unexpected", "messages that mean nothing to an interrupt controller"),
        FAULTS,
    )
)  # fmt: skip
