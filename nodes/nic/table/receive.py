"""Receive: filters and RSS (datasheet 8.2.3.7), DMA and rings (8.2.3.8), DCA (8.2.3.11).

Reserved bits of ring and filter registers read 0: ``ethtool -t`` looks.
"""

from __future__ import annotations

from nodes.nic.table.row import Run, reg, rx

_MRQE = {
    0: "off", 1: "RSS", 2: "DCB 8 TC", 3: "DCB 4 TC", 4: "RSS + 8 TC", 5: "RSS + 4 TC",
    8: "64 pools", 10: "32 pools x RSS", 11: "64 pools x RSS", 12: "16 pools x 8 TC",
    13: "32 pools x 4 TC",
}  # fmt: skip

FILTERS = (
    reg("RXCSUM", 0x05000, "8.2.3.7", "receive checksum control", "IPPCSE 12, PCSD 13"),
    reg("RFCTL", 0x05008, "8.2.3.7", "receive filter control",
        "RSC_DIS 5, NFSW_DIS 6, NFSR_DIS 7, IPV6_DIS 10, IPV6_XSUM_DIS 11, IPFRSP_DIS 14"),
    reg("FCTRL", 0x05080, "8.2.3.7", "filter control",
        "SBP 1, TPE 7, MPE 8, UPE 9, BAM 10, PMCF 12, DPF 13"),
    reg("VLNCTRL", 0x05088, "8.2.3.7", "VLAN control", "VET 15:0, CFI 28, CFIEN 29, VFE 30",
        reset=0x8100),
    reg("MCSTCTRL", 0x05090, "8.2.3.7", "multicast control", "MO 1:0, MFE 2"),
    reg("MTA", Run(0x05200, 128), "8.2.3.7", "multicast table"),
    reg("RAL", Run(0x0A200, 128, 8), "8.2.3.7", "receive address, low", "BYTES_0_3 31:0",
        alias=(Run(0x05400, 16, 8),)),
    reg("RAH", Run(0x0A204, 128, 8), "8.2.3.7", "receive address, high",
        "BYTES_4_5 15:0, AV 31", mask=0x8000_FFFF, alias=(Run(0x05404, 16, 8),)),
    reg("MPSAR_LO", Run(0x0A600, 128, 8), "8.2.3.7", "pools of an address, low"),
    reg("MPSAR_HI", Run(0x0A604, 128, 8), "8.2.3.7", "pools of an address, high"),
    reg("VFTA", Run(0x0A000, 128), "8.2.3.7", "VLAN filter"),
    reg("PSRTYPE", Run(0x0EA00, 64), "8.2.3.7", "packet split types",
        "TCP 4, UDP 5, IPV4 8, IPV6 9, L2 12, RQPL 31:29", alias=(Run(0x05480, 16),)),
    reg("RQSMR", Run(0x02300, 32), "8.2.3.23", "receive queue to statistics counter",
        "Q0 3:0, Q1 11:8, Q2 19:16, Q3 27:24", mask=0x0F0F_0F0F),
    reg("MRQC", 0x0EC80, "8.2.3.7", "multiple receive queues",
        "MRQE 3:0, TCP_IPV4 16, IPV4 17, TCP_IPV6_EX 18, IPV6_EX 19, IPV6 20, TCP_IPV6 21, "
        "UDP_IPV4 22, UDP_IPV6 23, UDP_IPV6_EX 24", alias=(Run(0x05818),),
        values={"MRQE": _MRQE}),
    reg("VMD_CTL", 0x0581C, "8.2.3.27", "VMDq control of the 82598"),
    reg("RETA", Run(0x0EB00, 32), "8.2.3.7", "RSS redirection",
        "E0 3:0, E1 11:8, E2 19:16, E3 27:24", alias=(Run(0x05C00, 32),)),
    reg("RSSRK", Run(0x0EB80, 10), "8.2.3.7", "RSS key, byte 4i in bits 7:0",
        alias=(Run(0x05C80, 10),)),
    reg("ETQF", Run(0x05128, 8), "8.2.3.7", "ethertype filter",
        "ETYPE 15:0, FCOE 27, IEEE1588 30, FILTER_EN 31"),
    reg("ETQS", Run(0x0EC00, 8), "8.2.3.7", "ethertype queue",
        "RX_QUEUE 22:16, LLI 29, QUEUE_EN 31"),
    reg("SAQF", Run(0x0E000, 128), "8.2.3.7", "5-tuple filter, source address"),
    reg("DAQF", Run(0x0E200, 128), "8.2.3.7", "5-tuple filter, destination address"),
    reg("SDPQF", Run(0x0E400, 128), "8.2.3.7", "5-tuple filter, ports",
        "SOURCE 15:0, DESTINATION 31:16"),
    reg("FTQF", Run(0x0E600, 128), "8.2.3.7", "5-tuple filter",
        "PROTOCOL 1:0, PRIORITY 4:2, POOL 13:8, MASK 29:25, POOL_MASK 30, QUEUE_EN 31"),
    reg("SYNQF", 0x0EC30, "8.2.3.7", "SYN filter", "QUEUE_EN 0, RX_QUEUE 7:1, PRIORITY 31"),
)  # fmt: skip

DMA = (
    reg("RXCTRL", 0x03000, "8.2.3.8", "receive control", "RXEN 0", mask=1),
    reg("RDRXCTL", 0x02F00, "8.2.3.8", "receive DMA control",
        "CRCSTRIP 1, DMAIDONE 3, RSC_PUSH_DIS 5, RSC_PUSH 7, AGGDIS 16, RSCFRSTSIZE 21:17, "
        "RSCLLIDIS 23, RSCACKC 25, FCOE_WRFIX 26", reset=0x0010_0000, mask=0xFFFF_FFF7),
    reg("RSCDBU", 0x03028, "8.2.3.8", "RSC data buffer control", "RSCACKDIS 7"),
    reg("RXPBSIZE", Run(0x03C00, 8), "8.2.3.8", "receive packet buffer", "SIZE_KB 19:10",
        mask=0x000F_FC00),
    reg("RXMEMWRAP", 0x03190, "8.2.3.8", "receive packet buffer wraps", access="RO"),
    reg("RXDSTATCTRL", 0x02F40, "8.2.3.23", "which queues RXDG* count"),
    reg("RDBAL", rx(0x00), "8.2.3.8", "ring base, low", mask=0xFFFF_FF80),
    reg("RDBAH", rx(0x04), "8.2.3.8", "ring base, high"),
    reg("RDLEN", rx(0x08), "8.2.3.8", "ring bytes", "LEN 19:0", mask=0x000F_FF80),
    reg("DCA_RXCTRL", rx(0x0C), "8.2.3.11", "DCA and ordering; bit 12 must be cleared",
        "DESC_DCA_EN 5, HEAD_DCA_EN 6, DATA_DCA_EN 7, DESC_RRO_EN 9, RESERVED_1 12, "
        "DATA_WRO_EN 13, HEAD_WRO_EN 15, CPUID 31:24", reset=0x1000,
        alias=(Run(0x02200, 16),)),
    reg("RDH", rx(0x10), "8.2.3.8", "head", "RDH 15:0", mask=0xFFFF),
    reg("SRRCTL", rx(0x14), "8.2.3.8", "split receive control",
        "BSIZEPACKET_KB 4:0, BSIZEHEADER_64B 13:8, RDMTS 24:22, DESCTYPE 27:25, DROP_EN 28",
        reset=0x402, alias=(Run(0x02100, 16),),
        values={"DESCTYPE": {0: "legacy", 1: "advanced, one buffer", 2: "header split",
                             5: "header split always"}}),
    reg("RDT", rx(0x18), "8.2.3.8", "tail", "RDT 15:0", mask=0xFFFF),
    reg("RXDCTL", rx(0x28), "8.2.3.8", "receive queue control", "ENABLE 25, SWFLSH 26, VME 30",
        sc=0x0400_0000),
    reg("RSCCTL", rx(0x2C), "8.2.3.8", "RSC of a queue", "RSCEN 0, TS_DIS 1, MAXDESC 3:2",
        values={"MAXDESC": ("1", "4", "8", "16")}),
)  # fmt: skip

TABLE = (*FILTERS, *DMA)
