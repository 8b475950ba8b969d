"""Only stored: flow director (8.2.3.21), security (12, 13), time stamps (26), pools (27).

Security offload is fused off (both status registers say so), which spares a driver the clearing
of the IPsec tables. Nothing acts on what is stored here but the flow director's handshakes.
"""

from __future__ import annotations

from nodes.nic.table.row import Run, reg

FLOW_DIRECTOR = (
    reg("FDIRCTRL", 0x0EE00, "8.2.3.21", "control; INIT_DONE follows a write",
        "PBALLOC 1:0, INIT_DONE 3, PERFECT 4, REPORT_STATUS 5, DROP_Q 14:8, FLEX_OFFSET 20:16, "
        "MAX_LENGTH 27:24, FULL_THRESH 31:28",
        values={"PBALLOC": ("none", "64 KB", "128 KB", "256 KB")}),
    reg("FDIRSIPV6", Run(0x0EE0C, 3), "8.2.3.21", "source IPv6 address"),
    reg("FDIRIPSA", 0x0EE18, "8.2.3.21", "source address"),
    reg("FDIRIPDA", 0x0EE1C, "8.2.3.21", "destination address"),
    reg("FDIRPORT", 0x0EE20, "8.2.3.21", "ports", "SOURCE 15:0, DESTINATION 31:16"),
    reg("FDIRVLAN", 0x0EE24, "8.2.3.21", "VLAN and flexible bytes", "VLAN 15:0, FLEX 31:16"),
    reg("FDIRHASH", 0x0EE28, "8.2.3.21", "hash and signature",
        "HASH 14:0, BUCKET_VALID 15, SIGNATURE 30:16"),
    reg("FDIRCMD", 0x0EE2C, "8.2.3.21", "command",
        "CMD 1:0, FILTER_VALID 2, FILTER_UPDATE 3, IPV6DMATCH 4, L4TYPE 6:5, IPV6 7, "
        "CLEARHT 8, DROP 9, LAST 11, COLLISION 12, QUEUE_EN 15, RX_QUEUE 22:16, POOL 29:24",
        sc=3, values={"CMD": ("none", "add", "remove", "query")}),
    reg("FDIRFREE", 0x0EE38, "8.2.3.21", "free filters", "FREE 15:0, COLL 30:16", "RO"),
    reg("FDIRDIP4M", 0x0EE3C, "8.2.3.21", "destination mask"),
    reg("FDIRSIP4M", 0x0EE40, "8.2.3.21", "source mask"),
    reg("FDIRTCPM", 0x0EE44, "8.2.3.21", "TCP port mask"),
    reg("FDIRUDPM", 0x0EE48, "8.2.3.21", "UDP port mask"),
    reg("FDIRLEN", 0x0EE4C, "8.2.3.21", "longest list", "MAXLEN 5:0, MAXHASH 30:16", "RC"),
    reg("FDIRUSTAT", 0x0EE50, "8.2.3.21", "filters added and removed", "ADD 15:0, REMOVE 31:16",
        "RC"),
    reg("FDIRFSTAT", 0x0EE54, "8.2.3.21", "failed additions and removals",
        "FADD 15:0, FREMOVE 31:16", "RC"),
    reg("FDIRHKEY", 0x0EE68, "8.2.3.21", "bucket hash key"),
    reg("FDIRSKEY", 0x0EE6C, "8.2.3.21", "signature hash key"),
    reg("FDIRM", 0x0EE70, "8.2.3.21", "masks of other fields",
        "VLANID 0, VLANP 1, POOL 2, L4P 3, FLEX 4, DIPV6 5"),
    reg("FDIRIP6M", 0x0EE74, "8.2.3.21", "IPv6 masks", "SIPM 15:0, DIPM 31:16"),
)  # fmt: skip

_INDEX = "EN 0, TABLE 2:1, INDEX 12:3, READ 30, WRITE 31"

SECURITY = (
    reg("SECTXCTRL", 0x08800, "8.2.3.12", "security, transmit",
        "SECTX_DIS 0, TX_DIS 1, STORE_FORWARD 2"),
    reg("SECTXSTAT", 0x08804, "8.2.3.12", "security status, transmit",
        "SECTX_RDY 0, SECTX_OFF_DIS 1", "RO", reset=3),
    reg("SECTXBUFFAF", 0x08808, "8.2.3.12", "buffer almost full"),
    reg("SECTXMINIFG", 0x08810, "8.2.3.12", "gap between frames",
        "MINSECIFG 3:0, MRKINSERT 12:8"),
    reg("SECRXCTRL", 0x08D00, "8.2.3.12", "security, receive", "SECRX_DIS 0, RX_DIS 1"),
    reg("SECRXSTAT", 0x08D04, "8.2.3.12", "security status, receive",
        "SECRX_RDY 0, SECRX_OFF_DIS 1", "RO", reset=3),
    reg("IPSTXIDX", 0x08900, "8.2.3.13", "IPsec transmit index", _INDEX),
    reg("IPSTXSALT", 0x08904, "8.2.3.13", "IPsec transmit salt"),
    reg("IPSTXKEY", Run(0x08908, 4), "8.2.3.13", "IPsec transmit key"),
    reg("IPSRXIDX", 0x08E00, "8.2.3.13", "IPsec receive index", _INDEX),
    reg("IPSRXIP", Run(0x08E04, 4), "8.2.3.13", "IPsec receive address"),
    reg("IPSRXSPI", 0x08E14, "8.2.3.13", "IPsec receive SPI"),
    reg("IPSRXIPIDX", 0x08E18, "8.2.3.13", "IPsec receive address index"),
    reg("IPSRXKEY", Run(0x08E1C, 4), "8.2.3.13", "IPsec receive key"),
    reg("IPSRXSALT", 0x08E2C, "8.2.3.13", "IPsec receive salt"),
    reg("IPSRXMOD", 0x08E30, "8.2.3.13", "IPsec receive mode"),
)  # fmt: skip

TIME_SYNC = (
    reg("RXMTRL", 0x05120, "8.2.3.26", "message types to stamp"),
    reg("TSYNCRXCTL", 0x05188, "8.2.3.26", "receive time stamps", "RXTT 0, TYPE 3:1, EN 4",
        mask=0xFFFF_FFFE),
    reg("RXSATRL", 0x051A0, "8.2.3.26", "stamped source, low", access="RO"),
    reg("RXSTMPH", 0x051A4, "8.2.3.26", "receive stamp, high", access="RO"),
    reg("RXSATRH", 0x051A8, "8.2.3.26", "stamped source, high", access="RO"),
    reg("RXSTMPL", 0x051E8, "8.2.3.26", "receive stamp, low", access="RO"),
    reg("TSYNCTXCTL", 0x08C00, "8.2.3.26", "transmit time stamps", "TXTT 0, EN 4",
        mask=0xFFFF_FFFE),
    reg("TXSTMPL", 0x08C04, "8.2.3.26", "transmit stamp, low", access="RO"),
    reg("TXSTMPH", 0x08C08, "8.2.3.26", "transmit stamp, high", access="RO"),
    reg("SYSTIML", 0x08C0C, "8.2.3.26", "system time, low: stands still"),
    reg("SYSTIMH", 0x08C10, "8.2.3.26", "system time, high"),
    reg("TIMINCA", 0x08C14, "8.2.3.26", "increment", "INCVALUE 23:0, INCPERIOD 31:24"),
    reg("TIMADJL", 0x08C18, "8.2.3.26", "adjustment, low"),
    reg("TIMADJH", 0x08C1C, "8.2.3.26", "adjustment, high"),
    reg("TSAUXC", 0x08C20, "8.2.3.26", "auxiliary control"),
    reg("TRGTTIM", Run(0x08C24, 4), "8.2.3.26", "target times"),
    reg("FREQOUT", Run(0x08C34, 2), "8.2.3.26", "frequency outputs"),
    reg("AUXSTMP", Run(0x08C3C, 4), "8.2.3.26", "auxiliary stamps", access="RO"),
)  # fmt: skip

POOLS = (
    reg("VT_CTL", 0x051B0, "8.2.3.27", "pools control",
        "VT_ENA 0, DEF_PL 12:7, DIS_DEF_PL 29, RPL_EN 30"),
    reg("PFMAILBOX", Run(0x04B00, 64), "8.2.3.27", "VF mailbox control"),
    reg("PFVFRE", Run(0x051E0, 2), "8.2.3.27", "pools that receive"),
    reg("PFVFTE", Run(0x08110, 2), "8.2.3.27", "pools that transmit"),
    reg("PFQDE", 0x02F04, "8.2.3.27", "queue drop enable of pools"),
    reg("PFVMVIR", Run(0x08000, 64), "8.2.3.27", "pool VLAN insertion"),
    reg("PFVFSPOOF", Run(0x08200, 8), "8.2.3.27", "anti-spoof"),
    reg("PFDTXGSWC", 0x08220, "8.2.3.27", "loopback between pools", "LBE 0"),
    reg("VMOLR", Run(0x0F000, 64), "8.2.3.27", "pool offload",
        "UPE 22, VPE 23, AUPE 24, ROMPE 25, ROPE 26, BAM 27, MPE 28"),
    reg("VLVF", Run(0x0F100, 64), "8.2.3.27", "pool VLAN filter", "VLAN_ID 11:0, VI_EN 31"),
    reg("VLVFB", Run(0x0F200, 128), "8.2.3.27", "pool VLAN bitmap"),
    reg("PFUTA", Run(0x0F400, 128), "8.2.3.27", "unicast table"),
    reg("PFMRCTL", Run(0x0F600, 4), "8.2.3.27", "mirror rules"),
    reg("PFMRVLAN", Run(0x0F610, 8), "8.2.3.27", "mirror VLANs"),
    reg("PFMRVM", Run(0x0F630, 8), "8.2.3.27", "mirror pools"),
    reg("PFMBMEM", Run(0x13000, 1024), "8.2.3.27", "VF mailbox memory"),
)  # fmt: skip

TABLE = (*FLOW_DIRECTOR, *SECURITY, *TIME_SYNC, *POOLS)
