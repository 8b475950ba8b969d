"""Tracepoints of the interrupt controller."""

from __future__ import annotations

from bus.recorder import Tracepoint, table

TRACEPOINTS = table(
    Tracepoint(0, "msi", "message taken; context = source NIC, a = address, b = data"),
    Tracepoint(1, "route", "vector handed to a CPU; a = vector | mode << 8, b = CPU"),
    Tracepoint(2, "ipi", "ICR written; context = source CPU, a = ICR"),
    Tracepoint(3, "drop", "reached nobody; a = index in MSI_DROPS, or 16 + index in IPI_DROPS"),
    Tracepoint(62, "fault", "a part broke or was mended; a = kind, b = 1 broke", always=True),
)

MSI = TRACEPOINTS["msi"].number
ROUTE = TRACEPOINTS["route"].number
IPI = TRACEPOINTS["ipi"].number
DROP = TRACEPOINTS["drop"].number
FAULT = TRACEPOINTS["fault"].number
