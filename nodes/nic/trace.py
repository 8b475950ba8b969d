"""Tracepoints of a NIC. ``a`` of a packet's record is ``packet_key``, ``b`` the place.

``b`` of ring events is queue << 32 | descriptor index; of interrupts the vector or register bits.
"""

from __future__ import annotations

from bus.recorder import Tracepoint, table

TRACEPOINTS = table(
    Tracepoint(0, "reset", "port reset; a = CTRL as written", always=True),
    Tracepoint(1, "link", "LINKS.UP changed; a = 1 up, 0 down", always=True),
    Tracepoint(2, "laser", "laser switched; a = 1 on, 0 off", always=True),
    Tracepoint(3, "doorbell", "TDT written; a = value, b = queue"),
    Tracepoint(4, "tx_dma", "descriptor and frame read from memory"),
    Tracepoint(5, "tx_wire", "frame handed to the wire"),
    Tracepoint(6, "tx_writeback", "DD written; a = descriptors, b = queue"),
    Tracepoint(7, "rx_wire", "frame taken from the wire"),
    Tracepoint(8, "rx_drop", "frame dropped; b = index in RX_DROPS"),
    Tracepoint(9, "rx_dma", "frame, descriptor and DD written to memory; context = RSS hash"),
    Tracepoint(11, "msi", "MSI or MSI-X message sent; context = vector, a = address, b = data"),
    Tracepoint(12, "msi_pending", "vector masked: pending bit set; a = vector"),
    Tracepoint(13, "mmio_write", "a = offset, b = value"),
    Tracepoint(14, "mmio_read", "a = offset, b = value"),
    Tracepoint(15, "tx_drop", "frame dropped; b = index in TX_DROPS"),
    Tracepoint(62, "fault", "a part broke or was mended; a = kind, b = 1 broke", always=True),
    Tracepoint(61, "msi_fault", "fault met a message; context = kind, a = address, b = data"),
)

RESET = TRACEPOINTS["reset"].number
LINK = TRACEPOINTS["link"].number
LASER = TRACEPOINTS["laser"].number
DOORBELL = TRACEPOINTS["doorbell"].number
TX_DMA = TRACEPOINTS["tx_dma"].number
TX_WIRE = TRACEPOINTS["tx_wire"].number
TX_WRITEBACK = TRACEPOINTS["tx_writeback"].number
RX_WIRE = TRACEPOINTS["rx_wire"].number
RX_DROP = TRACEPOINTS["rx_drop"].number
RX_DMA = TRACEPOINTS["rx_dma"].number
MSI = TRACEPOINTS["msi"].number
MSI_PENDING = TRACEPOINTS["msi_pending"].number
MMIO_WRITE = TRACEPOINTS["mmio_write"].number
MMIO_READ = TRACEPOINTS["mmio_read"].number
TX_DROP = TRACEPOINTS["tx_drop"].number
FAULT = TRACEPOINTS["fault"].number
MSI_FAULT = TRACEPOINTS["msi_fault"].number
