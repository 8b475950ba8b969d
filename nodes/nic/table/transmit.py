"""Transmit: DMA and rings (datasheet 8.2.3.9), arbiters and DCB (8.2.3.10)."""

from __future__ import annotations

from nodes.nic.table.row import Run, reg, tx

DMA = (
    reg("DMATXCTL", 0x04A80, "8.2.3.9", "transmit DMA control", "TE 0, GDV 3, VT 31:16",
        reset=0x8100_0000),
    reg("DTXTCPFLGL", 0x04A88, "8.2.3.9", "TCP flags that the first and middle segments keep",
        "FIRST 11:0, MIDDLE 27:16", reset=0x0F76_0FF6, mask=0x0FFF_0FFF),
    reg("DTXTCPFLGH", 0x04A8C, "8.2.3.9", "TCP flags that the last segment keeps", "LAST 11:0",
        reset=0x0000_0F7F, mask=0xFFF),
    reg("DTXMXSZRQ", 0x08100, "8.2.3.9", "bytes in flight", "MAX_BYTES_256 11:0", reset=0x10,
        mask=0xFFF),
    reg("MTQC", 0x08120, "8.2.3.9", "multiple transmit queues",
        "RT_ENA 0, VT_ENA 1, NUM_TC_OR_Q 3:2"),
    reg("TXPBSIZE", Run(0x0CC00, 8), "8.2.3.9", "transmit packet buffer", "SIZE_KB 19:10",
        mask=0x000F_FC00),
    reg("TXPBTHRESH", Run(0x04950, 8), "8.2.3.9", "transmit packet buffer threshold",
        "THRESH_KB 9:0"),
    reg("TQSM", Run(0x08600, 32), "8.2.3.23", "transmit queue to statistics counter",
        "Q0 3:0, Q1 11:8, Q2 19:16, Q3 27:24", mask=0x0F0F_0F0F),
    reg("TDBAL", tx(0x00), "8.2.3.9", "ring base, low", mask=0xFFFF_FF80),
    reg("TDBAH", tx(0x04), "8.2.3.9", "ring base, high"),
    reg("TDLEN", tx(0x08), "8.2.3.9", "ring bytes", "LEN 19:0", mask=0x000F_FF80),
    reg("DCA_TXCTRL", tx(0x0C), "8.2.3.11", "DCA and ordering",
        "DESC_DCA_EN 5, DESC_RRO_EN 9, DESC_WRO_EN 11, DATA_RRO_EN 13, CPUID 31:24"),
    reg("TDH", tx(0x10), "8.2.3.9", "head", "TDH 15:0", mask=0xFFFF),
    reg("TDT", tx(0x18), "8.2.3.9", "tail", "TDT 15:0", mask=0xFFFF),
    reg("TXDCTL", tx(0x28), "8.2.3.9", "transmit queue control",
        "PTHRESH 6:0, HTHRESH 14:8, WTHRESH 22:16, ENABLE 25, SWFLSH 26", sc=0x0400_0000),
    reg("TDWBAL", tx(0x38), "8.2.3.9", "head write-back address, low",
        "HEAD_WB_EN 0, ADDRESS 31:2", mask=0xFFFF_FFFD),
    reg("TDWBAH", tx(0x3C), "8.2.3.9", "head write-back address, high"),
    reg("TIPG", 0x0CB00, "8.2.3.9", "gap between frames"),
    reg("MNGTXMAP", 0x0CD10, "8.2.3.9", "traffic class of management"),
)  # fmt: skip

DCB = (
    reg("RTRPCS", 0x02430, "8.2.3.10", "receive packet plane control", "RRM 1, RAC 2"),
    reg("RTRUP2TC", 0x03020, "8.2.3.10", "receive priority to class"),
    reg("RTRPT4C", Run(0x02140, 8), "8.2.3.10", "receive class credits"),
    reg("RTTDCS", 0x04900, "8.2.3.10", "descriptor plane control",
        "TDPAC 0, VMPAC 1, TDRM 4, ARBDIS 6, BDPM 22, BPBFSM 23", reset=0x00C0_0000),
    reg("RTTDQSEL", 0x04904, "8.2.3.10", "queue that the next registers are of", "TXDQ 6:0"),
    reg("RTTDT1C", 0x04908, "8.2.3.10", "credits of the selected queue"),
    reg("RTTDT2C", Run(0x04910, 8), "8.2.3.10", "descriptor class credits"),
    reg("RTTBCNRM", 0x04980, "8.2.3.10", "rate scheduler memory"),
    reg("RTTBCNRC", 0x04984, "8.2.3.10", "rate of the selected queue",
        "RF_DEC 13:0, RF_INT 23:14, RS_ENA 31"),
    reg("RTTDTECC", 0x04990, "8.2.3.10", "descriptor plane ECC"),
    reg("RTTUP2TC", 0x0C800, "8.2.3.10", "transmit priority to class"),
    reg("RTTPCS", 0x0CD00, "8.2.3.10", "packet plane control", "TPPAC 5, ARBDIS 6, TPRM 8"),
    reg("RTTPT2C", Run(0x0CD20, 8), "8.2.3.10", "packet class credits"),
)  # fmt: skip

TABLE = (*DMA, *DCB)
