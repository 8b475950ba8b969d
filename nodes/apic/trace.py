"""Tracepoints of the interrupt controller."""

from __future__ import annotations

from bus.recorder import Tracepoint, table

TRACEPOINTS = table(
    Tracepoint(0, "msi", "message taken; context = source NIC, a = address, b = data"),
    Tracepoint(1, "route", "vector handed to a CPU; a = vector | mode << 8, b = CPU"),
    Tracepoint(2, "ipi", "ICR written; context = source CPU, a = ICR"),
    Tracepoint(3, "drop", "reached nobody; a = number in DROP_NUMBERS"),
    Tracepoint(4, "intx", "virtual wire; context = NIC, a = pin 1 to 4, b = asserted"),
    Tracepoint(5, "eoi", "EOI broadcast; context = CPU, a = vector"),
    Tracepoint(6, "ioapic_write", "context = CPU, a = offset, b = value"),
    Tracepoint(7, "ioapic_read", "context = CPU, a = offset, b = value"),
    Tracepoint(
        8, "slot", "a slot changed; context = slot, a = 1 card | 2 link | 4 power, b = slot status"
    ),
    Tracepoint(62, "fault", "a part broke or was mended; a = kind, b = 1 broke", always=True),
)

MSI = TRACEPOINTS["msi"].number
ROUTE = TRACEPOINTS["route"].number
IPI = TRACEPOINTS["ipi"].number
DROP = TRACEPOINTS["drop"].number
INTX = TRACEPOINTS["intx"].number
EOI = TRACEPOINTS["eoi"].number
IOAPIC_WRITE = TRACEPOINTS["ioapic_write"].number
IOAPIC_READ = TRACEPOINTS["ioapic_read"].number
SLOT = TRACEPOINTS["slot"].number
FAULT = TRACEPOINTS["fault"].number
