"""Interrupt registers (datasheet 8.2.3.5)."""

from __future__ import annotations

from nodes.nic.table.row import Run, reg

_CAUSES = (
    "RTXQ 15:0, FLOW_DIRECTOR 16, RX_MISS 17, PCI_EXCEPTION 18, MAILBOX 19, LSC 20, LINKSEC 21, "
    "MNG 22, THERMAL 23, SDP0 24, SDP1 25, SDP2 26, SDP3 27, ECC 28, DESC_HANDLER 29, "
    "TCP_TIMER 30, OTHER 31"
)
_VECTORS = "VECTORS 31:0"

TABLE = (
    reg("EICR", 0x00800, "8.2.3.5", "interrupt causes", _CAUSES, "W1C"),
    reg("EICS", 0x00808, "8.2.3.5", "set causes; reads EICR without clearing", _CAUSES, "W1S"),
    reg("EIMS", 0x00880, "8.2.3.5", "enable causes", _CAUSES, "W1S"),
    reg("EIMC", 0x00888, "8.2.3.5", "disable causes; reads the mask", _CAUSES, "W1C"),
    reg("EIAC", 0x00810, "8.2.3.5", "auto-clear enables", _CAUSES, mask=0x4000_FFFF),
    reg("EIAM", 0x00890, "8.2.3.5", "auto-mask enables", _CAUSES),
    reg("EICR_EX", Run(0x00A80, 2), "8.2.3.5", "causes by vector", _VECTORS, "W1C"),
    reg("EICS_EX", Run(0x00A90, 2), "8.2.3.5", "set vectors", _VECTORS, "W1S"),
    reg("EIMS_EX", Run(0x00AA0, 2), "8.2.3.5", "enable vectors", _VECTORS, "W1S"),
    reg("EIMC_EX", Run(0x00AB0, 2), "8.2.3.5", "disable vectors", _VECTORS, "W1C"),
    reg("EIAM_EX", Run(0x00AD0, 2), "8.2.3.5", "auto-mask enables by vector", _VECTORS),
    reg("EITR", (Run(0x00820, 24), Run(0x12300, 105)), "8.2.3.5", "interrupt throttle",
        "INTERVAL_2048NS 11:3, LLI_EN 15, LLI_CREDIT 20:16, COUNTER 27:21, CNT_WDIS 31"),
    reg("EITRSEL", 0x00894, "8.2.3.5", "throttle select of VFs"),
    reg("L34T_IMIR", Run(0x0E800, 128), "8.2.3.7", "low latency interrupt and queue of a filter",
        "SIZE_BP 12, LLI 20, RX_QUEUE 27:21"),
    reg("IMIRVP", 0x05AC0, "8.2.3.5", "low latency interrupt by VLAN priority",
        "PRIORITY 2:0, EN 3"),
    reg("LLITHRESH", 0x0EC90, "8.2.3.5", "low latency interrupt by size"),
    reg("IVAR", Run(0x00900, 64), "8.2.3.5", "queue pair to vector",
        "RX_EVEN 5:0, RX_EVEN_VALID 7, TX_EVEN 13:8, TX_EVEN_VALID 15, RX_ODD 21:16, "
        "RX_ODD_VALID 23, TX_ODD 29:24, TX_ODD_VALID 31", mask=0xBFBF_BFBF),
    reg("IVAR_MISC", 0x00A00, "8.2.3.5", "other causes to vector",
        "TCP_TIMER 5:0, TCP_TIMER_VALID 7, OTHER 13:8, OTHER_VALID 15", mask=0xBFBF),
    reg("GPIE", 0x00898, "8.2.3.5", "general purpose interrupt enable",
        "SDP_GPIEN 3:0, MSIX_MODE 4, OCD 5, EIMEN 6, LLI_INTERVAL 10:7, RSC_DELAY 13:11, "
        "VT_MODE 15:14, EIAME 30, PBA_SUPPORT 31"),
    reg("PBACL", (Run(0x11068), Run(0x110C0, 7)), "8.2.3.6", "clear pending bits", _VECTORS,
        "W1C"),
    reg("PFVFLREC", Run(0x00700, 2), "8.2.3.27", "VFs that were reset", access="W1C"),
    reg("PFMBICR", Run(0x00710, 4), "8.2.3.27", "VF mailbox causes", access="W1C"),
    reg("PFMBIMR", Run(0x00720, 2), "8.2.3.27", "VF mailbox mask"),
)  # fmt: skip
