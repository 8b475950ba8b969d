"""``ethtool -d`` of an ixgbe port, decoded as ethtool's own table does it: first some registers by
field, then each with its address, name and meaning."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A register; of several with one name the index is in name and meaning."""

    address: int
    name: str
    meaning: str


def _run(
    address: int, count: int, step: int, name: str, meaning: str, digits: int = 1
) -> list[Row]:
    return [
        Row(
            address + i * step,
            name.replace("#", f"{i:0{digits}}"),
            meaning.replace("#", f"{i:0{digits}}"),
        )
        for i in range(count)
    ]


def _rows(text: str) -> list[Row]:
    """Lines of ``address name meaning``; ``address+step*count`` is a run, ``##`` two digits."""
    rows: list[Row] = []
    for line in text.strip().splitlines():
        place, name, meaning = line.split(" ", 2)
        first, plus, rest = place.partition("+")
        if not plus:
            rows.append(Row(int(first, 16), name, meaning))
            continue
        step, _, count = rest.partition("*")
        digits = 2 if "##" in name else 1
        name, meaning = name.replace("##", "#"), meaning.replace("##", "#")
        rows += _run(int(first, 16), int(count), int(step, 16), name, meaning, digits)
    return rows


_GENERAL = _rows("""
00000 CTRL Device Control
00008 STATUS Device Status
00018 CTRL_EXT Extended Device Control
00020 ESDP Extended SDP Control
00028 EODSDP Extended OD SDP Control
00200 LEDCTL LED Control
00048 FRTIMER Free Running Timer
0004C TCPTIMER TCP Timer
10010 EEC EEPROM/Flash Control
10014 EERD EEPROM Read
1001C FLA Flash Access
10110 EEMNGCTL Manageability EEPROM Control
10114 EEMNGDATA Manageability EEPROM R/W Data
10118 FLMNGCTL Manageability Flash Control
1011C FLMNGDATA Manageability Flash Read Data
10120 FLMNGCNT Manageability Flash Read Count
1013C FLOP Flash Opcode
10200 GRC General Receive Control
00800 EICR Extended Interrupt Cause
00808 EICS Extended Interrupt Cause Set
00880 EIMS Extended Interr. Mask Set/Read
00888 EIMC Extended Interrupt Mask Clear
00810 EIAC Extended Interrupt Auto Clear
00890 EIAM Extended Interr. Auto Mask EN
00820 EITR0 Extended Interrupt Throttle 0
00900 IVAR0 Interrupt Vector Allocation 0
00000 MSIXT MSI-X Table
11068 PBACL MSI-X PBA Clear
00898 GPIE General Purpose Interrupt EN
03008 PFCTOP Priority Flow Ctrl Type Opcode
03200+4*4 FCCTV# Flow Ctrl Tx Timer Value #
03220+8*8 FCRTL# Flow Ctrl Rx Threshold low #
03260+8*8 FCRTH# Flow Ctrl Rx Threshold High #
032A0 FCRTV Flow Control Refresh Threshold
0CE00 TFCS Transmit Flow Control Status
""")
_RECEIVE = _rows("""
01000+40*64 RDBAL## Rx Desc Base Addr Low ##
01004+40*64 RDBAH## Rx Desc Base Addr High ##
01008+40*64 RDLEN## Receive Descriptor Length ##
01010+40*64 RDH## Receive Descriptor Head ##
01018+40*64 RDT## Receive Descriptor Tail ##
01028+40*64 RXDCTL## Receive Descriptor Control ##
02100+4*16 SRRCTL## Split and Replic Rx Control ##
02200+4*16 DCA_RXCTRL## Rx DCA Control ##
02F00 RDRXCTL Receive DMA Control
03C00+4*8 RXPBSIZE# Receive Packet Buffer Size #
03000 RXCTRL Receive Control
05000 RXCSUM Receive Checksum Control
05008 RFCTL Receive Filter Control
05400+8*16 RAL## Receive Address Low##
05404+8*16 RAH## Receive Address High ##
05480 PSRTYPE Packet Split Receive Type
05090 MCSTCTRL Multicast Control
05818 MRQC Multiple Rx Queues Command
0581C VMD_CTL VMDq Control
05A80+4*8 IMIR# Immediate Interrupt Rx #
05AA0+4*8 IMIREXT# Immed. Interr. Rx Extended #
05AC0 IMIRVP Immed. Interr. Rx VLAN Prior.
""")
_TRANSMIT = _rows("""
06000+40*32 TDBAL## Tx Desc Base Addr Low ##
06004+40*32 TDBAH## Tx Desc Base Addr High ##
06008+40*32 TDLEN## Tx Descriptor Length ##
06010+40*32 TDH## Transmit Descriptor Head ##
06018+40*32 TDT## Transmit Descriptor Tail ##
06028+40*32 TXDCTL## Tx Descriptor Control ##
06038+40*32 TDWBAL## Tx Desc Compl. WB Addr low ##
0603C+40*32 TDWBAH## Tx Desc Compl. WB Addr High ##
07E00 DTXCTL DMA Tx Control
07200+4*16 DCA_TXCTRL## Tx DCA Control ##
0CC00+4*8 TXPBSIZE# Transmit Packet Buffer Size #
0CD10 MNGTXMAP Manageability Tx TC Mapping
05800 WUC Wake up Control
05808 WUFC Wake Up Filter Control
05810 WUS Wake Up Status
05838 IPAV IP Address Valid
05840 IP4AT IPv4 Address Table
05880 IP6AT IPv6 Address Table
05900 WUPL Wake Up Packet Length
05A00 WUPM Wake Up Packet Memory
09000 FHFT Flexible Host Filter Table
04900 RTTDCS Tx Descr Plane Ctrl&Status
0CD00 RTTPCS Tx Pkt Plane Ctrl&Status
02430 RTRPCS Rx Packet Plane Ctrl&Status
02140+4*8 RTRPT4C# Rx Packet Plane T4 Config #
02160+4*8 RTRPT4S# Rx Packet Plane T4 Status #
04910+4*8 RTTDT2C# Tx Descr Plane T2 Config #
04930+4*8 RTTDT2S# Tx Descr Plane T2 Status #
0CD20+4*8 RTTPT2C# Tx Packet Plane T2 Config #
0CD40+4*8 RTTPT2S# Tx Packet Plane T2 Status #
03020 RTRUP2TC Rx User Prio to Traffic Classes
0C800 RTTUP2TC Tx User Prio to Traffic Classes
082E0+4*4 TXLLQ# Strict Low Lat Tx Queues #
04980 RTTBCNRM DCB TX Rate Sched MMW
0498C RTTBCNRD DCB TX Rate-Scheduler Drift
""")
_STATISTICS = _rows("""
04000 crcerrs CRC Error Count
04004 illerrc Illegal Byte Error Count
04008 errbc Error Byte Count
04010 mspdc MAC Short Packet Discard Count
03FA0+4*8 mpc# Missed Packets Count #
04034 mlfc MAC Local Fault Count
04038 mrfc MAC Remote Fault Count
04040 rlec Receive Length Error Count
03F60 lxontxc Link XON Transmitted Count
0CF60 lxonrxc Link XON Received Count
03F68 lxofftxc Link XOFF Transmitted Count
0CF68 lxoffrxc Link XOFF Received Count
03F00+4*8 pxontxc# Priority XON Tx Count #
0CF00+4*8 pxonrxc# Priority XON Received Count #
03F20+4*8 pxofftxc# Priority XOFF Tx Count #
0CF20+4*8 pxoffrxc# Priority XOFF Received Count #
0405C prc64 Packets Received (64B) Count
04060 prc127 Packets Rx (65-127B) Count
04064 prc255 Packets Rx (128-255B) Count
04068 prc511 Packets Rx (256-511B) Count
0406C prc1023 Packets Rx (512-1023B) Count
04070 prc1522 Packets Rx (1024-Max) Count
04074 gprc Good Packets Received Count
04078 bprc Broadcast Packets Rx Count
0407C mprc Multicast Packets Rx Count
04080 gptc Good Packets Transmitted Count
04088 gorcl Good Octets Rx Count Low
0408C gorch Good Octets Rx Count High
04090 gotcl Good Octets Tx Count Low
04094 gotch Good Octets Tx Count High
03FC0+4*8 rnbc# Receive No Buffers Count #
040A4 ruc Receive Undersize count
040A8 rfc Receive Fragment Count
040AC roc Receive Oversize Count
040B0 rjc Receive Jabber Count
040B4 mngprc Management Packets Rx Count
040B8 mngpdc Management Pkts Dropped Count
0CF90 mngptc Management Packets Tx Count
040C0 torl Total Octets Rx Count Low
040C4 torh Total Octets Rx Count High
040D0 tpr Total Packets Received
040D4 tpt Total Packets Transmitted
040D8 ptc64 Packets Tx (64B) Count
040DC ptc127 Packets Tx (65-127B) Count
040E0 ptc255 Packets Tx (128-255B) Count
040E4 ptc511 Packets Tx (256-511B) Count
040E8 ptc1023 Packets Tx (512-1023B) Count
040EC ptc1522 Packets Tx (1024-Max) Count
040F0 mptc Multicast Packets Tx Count
040F4 bptc Broadcast Packets Tx Count
04120 xec XSUM Error Count
01030+40*16 qprc## Queue Packets Rx Count ##
06030+40*16 qptc## Queue Packets Tx Count ##
01034+40*16 qbrc## Queue Bytes Rx Count ##
06034+40*16 qbtc## Queue Bytes Tx Count ##
""")
_MAC = _rows("""
04200 PCS1GCFIG PCS_1G Gloabal Config 1
04208 PCS1GLCTL PCS_1G Link Control
0420C PCS1GLSTA PCS_1G Link Status
04210 PCS1GDBG0 PCS_1G Debug 0
04214 PCS1GDBG1 PCS_1G Debug 1
04218 PCS1GANA PCS-1G Auto Neg. Adv.
0421C PCS1GANLP PCS-1G AN LP Ability
04220 PCS1GANNP PCS_1G Auto Neg Next Page Tx
04224 PCS1GANLPNP PCS_1G Auto Neg LPs Next Page
04244 HLREG1 Highlander Status 1
04248 PAP Pause and Pace
0424C MACA MDI Auto-Scan Command and Addr
04250 APAE Auto-Scan PHY Address Enable
04254 ARD Auto-Scan Read Data
04258 AIS Auto-Scan Interrupt Status
0425C MSCA MDI Single Command and Addr
04260 MSRWD MDI Single Read and Write Data
04264 MLADD MAC Address Low
04268 MHADD MAC Addr High/Max Frame size
0426C TREG Test Register
04288 PCSS1 XGXS Status 1
0428C PCSS2 XGXS Status 2
04290 XPCSS 10GBASE-X PCS Status
04298 SERDESC SERDES Interface Control
0429C MACS FIFO Status/CNTL Report
042A0 AUTOC Auto Negotiation Control
042A8 AUTOC2 Auto Negotiation Control 2
042AC AUTOC3 Auto Negotiation Control 3
042B0 ANLP1 Auto Neg Lnk Part. Ctrl Word 1
042B4 ANLP2 Auto Neg Lnk Part. Ctrl Word 2
02F20 RDPROBE Rx Probe Mode Status
07C20 TDSTATCTL Tx DMA Statistic Control
07C00+4*8 TDSTAT# Tx DMA Statistics #
07F08 TDHMPN Tx Desc Handler Mem Page Num
07F10+4*4 TIC_DW# Tx Desc Hand. Mem Read Data #
07F20 TDPROBE Tx Probe Mode Status
0C600 TXBUFCTRL TX Buffer Access Control
0C610+4*4 TXBUFDATA# TX Buffer DATA #
03600 RXBUFCTRL RX Buffer Access Control
03610+4*4 RXBUFDATA# RX Buffer DATA #
11090+4*8 PCIE_DIAG# PCIe Diagnostic #
""")
_LIST = _GENERAL + _RECEIVE + _TRANSMIT + _STATISTICS + _MAC


#: Where the driver reads what the tool prints under another address: that of the 82598.
READ_AT = {
    **{0x03220 + 8 * i: 0x03220 + 4 * i for i in range(8)},
    **{0x03260 + 8 * i: 0x03260 + 4 * i for i in range(8)},
    **{0x0CF00 + 4 * i: 0x04140 + 4 * i for i in range(8)},
    **{0x0CF20 + 4 * i: 0x04160 + 4 * i for i in range(8)},
    **{0x06034 + 0x40 * i: 0x08700 + 8 * i for i in range(16)},
    0x0CF60: 0x041A4,
    0x0CF68: 0x041A8,
}


class _Decoded(NamedTuple):
    """A register with fields, each (label, bit)."""

    address: int
    title: str
    fields: tuple[tuple[str, int], ...]


_MFLCN = _Decoded(
    0x04294,
    "MFLCN (TabMAC Flow Control register)",
    (
        ("Receive Flow Control Packets", 3), ("Discard Pause Frames", 1),
        ("Pass MAC Control Frames", 0), ("Receive Priority Flow Control Packets", 2),
    ),
)  # fmt: skip
_FCTRL = _Decoded(
    0x05080,
    "FCTRL (Filter Control register)",
    (
        ("Broadcast Accept", 10), ("Unicast Promiscuous", 9), ("Multicast Promiscuous", 8),
        ("Store Bad Packets", 1),
    ),
)  # fmt: skip
_VLNCTRL = _Decoded(
    0x05088, "VLNCTRL (VLAN Control register)", (("VLAN Mode", 31), ("VLAN Filter", 30))
)
_FCCFG = _Decoded(
    0x03D00,
    "FCCFG (Flow Control Configuration)",
    (("Transmit Flow Control", 3), ("Priority Flow Control", 4)),
)
_HLREG0 = _Decoded(
    0x04240,
    "HLREG0 (Highlander Control 0 register)",
    (
        ("Transmit CRC", 0), ("Receive CRC Strip", 1), ("Jumbo Frames", 2),
        ("Pad Short Frames", 10), ("Loopback", 15),
    ),
)  # fmt: skip
_LINKS, _SRRCTL0 = 0x042A4, 0x02100
_UP, _SPEED = 1 << 30, 1 << 29
ROWS: list[Row] = [
    *(
        Row(address, "", "")
        for address in (_LINKS, _FCTRL.address, _MFLCN.address, _VLNCTRL.address)
    ),
    *(Row(address, "", "") for address in (_SRRCTL0, _FCCFG.address, _HLREG0.address)),
    *_LIST,
]


def _title(address: int, title: str, value: int) -> str:
    return f"0x{address:05X}: {title}".ljust(54) + f"0x{value:08X}\n"


def _field(label: str, text: str) -> str:
    return f"       {label + ':':<47}{text}\n"


def _decoded(row: _Decoded, value: int) -> str:
    text = _title(row.address, row.title, value)
    for label, bit in row.fields:
        text += _field(label, "enabled" if value >> bit & 1 else "disabled")
    return text


def dump(values: dict[int, int]) -> str:
    """The whole text, from the value of each address of ``ROWS``."""
    links = values[_LINKS]
    text = _title(_LINKS, "LINKS (Link Status register)", links)
    text += _field("Link Status", "up" if links & _UP else "down")
    text += _field("Link Speed", "10G" if links & _SPEED else "1G")
    for row in (_FCTRL, _MFLCN, _VLNCTRL):
        text += _decoded(row, values[row.address])
    srrctl = values[_SRRCTL0]
    text += _title(_SRRCTL0, "SRRCTL0 (Split and Replic Rx Control 0)", srrctl)
    text += _field("Receive Buffer Size", f"{min(srrctl & 0x1F, 0x10)}KB")
    for row in (_FCCFG, _HLREG0):
        text += _decoded(row, values[row.address])
    for place in _LIST:
        name = f"{place.name:<11} ({place.meaning})"
        text += _title(place.address, name, values[place.address])
    return text
