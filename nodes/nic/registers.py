"""BAR0 of the 82599 as a table: name, address, reset value, access rule, meaning.

Source: Intel 82599 datasheet, chapter 8 (programming interface); each row names the group of the
chapter that describes it (8.2.3.5 interrupts, 8.2.3.8 receive DMA, ...). The table is laid out
whole, behaviour is attached to it by name (``regfile``): a register that stands here without
behaviour stores what is written to it, as silicon does with bits whose effect is not modelled.
Offsets that are not listed behave as plain RAM, reset 0.

A register array is one row. ``runs`` says where its elements lie: queue registers 64..127 stand
apart from 0..63. ``aliases`` are further addresses of the same storage, from element 0 on.

Left out: virtualisation, DCB, IPsec, FCoE, IEEE 1588 and flow-control registers beyond what a
driver only stores into.
"""

from __future__ import annotations

from typing import NamedTuple

#: Access rules. The bits of ``mask`` follow the rule, all others ignore writes.
ACCESS = {
    "RW": "plain storage",
    "RO": "writes are ignored",
    "WO": "stored, reads give 0",
    "RC": "a read clears it, writes are ignored",
    "W1C": "writing 1 clears",
    "W1S": "writing 1 sets",
    "RS": "a read sets bit 0",
}
ALL = 0xFFFF_FFFF
BAR0_BYTES = 0x80000
#: CSRs end here; what lies above in BAR0 is the flash window.
CSR_BYTES = 0x20000
QUEUES = 128
VECTORS = 64


class Run(NamedTuple):
    """Where ``elements`` of an array lie, ``stride`` bytes apart."""

    offset: int
    elements: int = 1
    stride: int = 4


class Register(NamedTuple):
    """One row. ``self_clearing`` bits read 0 after a write; behaviour sees them in the value."""

    name: str
    runs: tuple[Run, ...]
    access: str
    reset: int
    mask: int
    section: str
    doc: str
    self_clearing: int = 0
    aliases: tuple[Run, ...] = ()

    @property
    def elements(self) -> int:
        return sum(run.elements for run in self.runs)


class Slot(NamedTuple):
    """What an address means: an element of ``register``, stored under ``key``."""

    register: Register
    element: int
    key: int


def _reg(
    name: str,
    at: int | Run | tuple[Run, ...],
    section: str,
    doc: str,
    access: str = "RW",
    reset: int = 0,
    mask: int = ALL,
    sc: int = 0,
    alias: tuple[Run, ...] = (),
) -> Register:
    runs = (Run(at),) if isinstance(at, int) else (at,) if isinstance(at, Run) else at
    return Register(name, runs, access, reset, mask, section, doc, sc, alias)


def _rx(offset: int) -> tuple[Run, ...]:
    return (Run(0x1000 + offset, 64, 0x40), Run(0xD000 + offset, 64, 0x40))


def _tx(offset: int) -> Run:
    return Run(0x6000 + offset, 128, 0x40)


def _stat(name: str, at: int | Run, doc: str, alias: tuple[Run, ...] = ()) -> Register:
    return _reg(name, at, "8.2.3.23", doc, "RC", alias=alias)


GENERAL = (
    _reg("CTRL", 0x00000, "8.2.3.1", "device control: GIO_DIS 2, LNK_RST 3, RST 26",
         mask=0x0400_000C, sc=0x0400_0008),
    _reg("STATUS", 0x00008, "8.2.3.1", "LAN id 3:2, GIO master enable 19", "RO",
         reset=0x0008_0000),
    _reg("CTRL_EXT", 0x00018, "8.2.3.1", "PFRSTD 14, NS_DIS 16, RO_DIS 17, DRV_LOAD 28"),
    _reg("ESDP", 0x00020, "8.2.3.1", "software pins: data 7:0, direction 15:8 (1 = out)",
         reset=0x0000_2804),
    _reg("I2CCTL", 0x00028, "8.2.3.1", "I2C pins to the SFP+ cage", reset=0xF, mask=0xA),
    _reg("LEDCTL", 0x00200, "8.2.3.1", "LED modes"),
    _reg("FRTIMER", 0x00048, "8.2.3.5", "free-running timer", "RO"),
    _reg("TCPTIMER", 0x0004C, "8.2.3.5", "TCP timer"),
    _reg("EEC", 0x10010, "8.2.3.2", "EEPROM control: PRES 8, ARD 9, SIZE 14:11", "RO",
         reset=0x0000_4510),
    _reg("EERD", 0x10014, "8.2.3.2", "EEPROM read: START 0, DONE 1, address 15:2, data 31:16"),
    _reg("EEWR", 0x10018, "8.2.3.2", "EEPROM write"),
    _reg("FLA", 0x1001C, "8.2.3.2", "flash access"),
    _reg("GRC", 0x10200, "8.2.3.2", "general receive control"),
    _reg("SWSM", 0x10140, "8.2.3.4", "software semaphore: SMBI 0, SWESMBI 1", "RS", mask=3),
    _reg("GSSR", 0x10160, "8.2.3.4", "SW_FW_SYNC: owners of shared resources"),
    _reg("FWSM", 0x10148, "8.2.3.4", "firmware: valid 15, mode 3:1", "RO", reset=0x8000),
    _reg("FACTPS", 0x10150, "8.2.3.4", "function active and power state", "RO"),
    _reg("MANC", 0x05820, "8.2.3.25", "management control", "RO"),
    _reg("MMNGC", 0x042D0, "8.2.3.25", "management veto", "RO"),
    _reg("HICR", 0x15F00, "8.2.3.25", "host interface control: EN 0 reads 0, no firmware", "RO"),
    _reg("FWSTS", 0x15F0C, "8.2.3.25", "firmware status", "W1C"),
    _reg("GCR", 0x11000, "8.2.3.4", "PCIe control"),
    _reg("GCR_EXT", 0x11050, "8.2.3.4", "PCIe control, extended"),
    _reg("BARCTRL", 0x110F4, "8.2.3.4", "BAR sizes", "RO"),
    _reg("CORECTL", 0x14F00, "8.2.3.22", "core control", "WO"),
    _reg("WUC", 0x05800, "8.2.3.24", "wake-up control"),
    _reg("WUFC", 0x05808, "8.2.3.24", "wake-up filter"),
    _reg("WUS", 0x05810, "8.2.3.24", "wake-up status", "W1C"),
)  # fmt: skip

LINK = (
    _reg("AUTOC", 0x042A0, "8.2.3.22", "FLU 0, AN_RESTART 12, link mode (LMS) 15:13",
         reset=0x6000, sc=0x1000),
    _reg("AUTOC2", 0x042A8, "8.2.3.22", "10G serial PMA 17:16", reset=0x0002_0000),
    _reg("LINKS", 0x042A4, "8.2.3.22", "UP 30, speed 29:28", "RO"),
    _reg("LINKS2", 0x04324, "8.2.3.22", "partner", "RO"),
    _reg("ANLP1", 0x042B0, "8.2.3.22", "negotiation state 19:16", "RO"),
    _reg("PCS1GLCTL", 0x04208, "8.2.3.22", "1G PCS link control"),
    _reg("PCS1GLSTA", 0x0420C, "8.2.3.22", "1G PCS link status", "RO"),
    _reg("PCS1GANA", 0x04218, "8.2.3.22", "1G AN advertisement"),
    _reg("PCS1GANLP", 0x0421C, "8.2.3.22", "1G AN partner", "RO"),
    _reg("MACC", 0x04330, "8.2.3.22", "MAC control: FLU 0"),
    _reg("MSCA", 0x0425C, "8.2.3.22", "MDIO command", sc=0x4000_0000),
    _reg("MSRWD", 0x04260, "8.2.3.22", "MDIO data: read 31:16; nobody answers",
         reset=0xFFFF_0000, mask=0x0000_FFFF),
    _reg("HLREG0", 0x04240, "8.2.3.22", "TXCRCEN 0, RXCRCSTRP 1, JUMBOEN 2, TXPADEN 10, LPBK 15",
         reset=0x0800_0403),
    _reg("MAXFRS", 0x04268, "8.2.3.22", "largest frame with CRC 31:16 (JUMBOEN)",
         reset=0x05EE_0000),
    _reg("MFLCN", 0x04294, "8.2.3.22", "MAC flow control"),
)  # fmt: skip

INTERRUPT = (
    _reg("EICR", 0x00800, "8.2.3.5", "causes", "W1C"),
    _reg("EICS", 0x00808, "8.2.3.5", "set causes; reads EICR without clearing", "W1S"),
    _reg("EIMS", 0x00880, "8.2.3.5", "enable causes", "W1S"),
    _reg("EIMC", 0x00888, "8.2.3.5", "disable causes; reads the mask", "W1C"),
    _reg("EIAC", 0x00810, "8.2.3.5", "auto-clear enables", mask=0x4000_FFFF),
    _reg("EIAM", 0x00890, "8.2.3.5", "auto-mask enables"),
    _reg("EICR_EX", Run(0x00A80, 2), "8.2.3.5", "causes by vector", "W1C"),
    _reg("EICS_EX", Run(0x00A90, 2), "8.2.3.5", "set vectors", "W1S"),
    _reg("EIMS_EX", Run(0x00AA0, 2), "8.2.3.5", "enable vectors", "W1S"),
    _reg("EIMC_EX", Run(0x00AB0, 2), "8.2.3.5", "disable vectors", "W1C"),
    _reg("EIAM_EX", Run(0x00AD0, 2), "8.2.3.5", "auto-mask enables by vector"),
    _reg("EITR", (Run(0x00820, 24), Run(0x12300, 105)), "8.2.3.5",
         "interval 11:3 of 2.048 us, LLI 15, counter 27:21, CNT_WDIS 31"),
    _reg("EITRSEL", 0x00894, "8.2.3.5", "VF related"),
    _reg("IVAR", Run(0x00900, 64), "8.2.3.5", "queue pair to vector, a byte each: valid 7",
         mask=0xBFBF_BFBF),
    _reg("IVAR_MISC", 0x00A00, "8.2.3.5", "byte 0 TCP timer, byte 1 other causes", mask=0xBFBF),
    _reg("GPIE", 0x00898, "8.2.3.5", "MSIX_MODE 4, OCD 5, EIMEN 6, EIAME 30, PBA_SUPPORT 31"),
    _reg("PBACL", (Run(0x11068), Run(0x110C0, 7)), "8.2.3.5", "clear pending bits", "W1C"),
)  # fmt: skip

RECEIVE = (
    _reg("RXCTRL", 0x03000, "8.2.3.8", "RXEN 0", mask=1),
    _reg("RDRXCTL", 0x02F00, "8.2.3.8", "CRCSTRIP 1, DMAIDONE 3 (read only)",
         reset=0x0010_0000, mask=0xFFFF_FFF7),
    _reg("RSCDBU", 0x03028, "8.2.3.8", "RSC"),
    _reg("RXPBSIZE", Run(0x03C00, 8), "8.2.3.8", "packet buffer, KB in 19:10",
         mask=0x000F_FC00),
    _reg("RXCSUM", 0x05000, "8.2.3.7", "PCSD 13: RSS hash in the descriptor"),
    _reg("RFCTL", 0x05008, "8.2.3.7", "receive filter control"),
    _reg("FCTRL", 0x05080, "8.2.3.7", "SBP 1, MPE 8, UPE 9, BAM 10, PMCF 12, DPF 13"),
    _reg("VLNCTRL", 0x05088, "8.2.3.7", "VLAN type 15:0, VFE 30", reset=0x8100),
    _reg("MCSTCTRL", 0x05090, "8.2.3.7", "multicast hash: MO 1:0, MFE 2"),
    _reg("MTA", Run(0x05200, 128), "8.2.3.7", "multicast table"),
    _reg("RAL", Run(0x0A200, 128, 8), "8.2.3.7", "receive address, low",
         alias=(Run(0x05400, 16, 8),)),
    _reg("RAH", Run(0x0A204, 128, 8), "8.2.3.7", "receive address, high; AV 31",
         mask=0x8000_FFFF, alias=(Run(0x05404, 16, 8),)),
    _reg("MPSAR_LO", Run(0x0A600, 128, 8), "8.2.3.7", "pools of an address, low"),
    _reg("MPSAR_HI", Run(0x0A604, 128, 8), "8.2.3.7", "pools of an address, high"),
    _reg("VFTA", Run(0x0A000, 128), "8.2.3.7", "VLAN filter"),
    _reg("PSRTYPE", Run(0x0EA00, 64), "8.2.3.7", "packet split", alias=(Run(0x05480, 16),)),
    _reg("RQSMR", Run(0x02300, 32), "8.2.3.23", "queue to statistics counter",
         mask=0x0F0F_0F0F),
    _reg("MRQC", 0x0EC80, "8.2.3.7", "multiple receive queues: MRQE 3:0, fields 31:16",
         alias=(Run(0x05818),)),
    _reg("RETA", Run(0x0EB00, 32), "8.2.3.7", "RSS redirection, four entries each",
         alias=(Run(0x05C00, 32),)),
    _reg("RSSRK", Run(0x0EB80, 10), "8.2.3.7", "RSS key, byte 4i in bits 7:0",
         alias=(Run(0x05C80, 10),)),
    _reg("SECRXCTRL", 0x08D00, "8.2.3.12", "RX_DIS 1"),
    _reg("SECRXSTAT", 0x08D04, "8.2.3.12", "ready 0, offload fused off 1", "RO", reset=3),
    _reg("RDBAL", _rx(0x00), "8.2.3.8", "ring base, low; 128-byte aligned", mask=0xFFFF_FF80),
    _reg("RDBAH", _rx(0x04), "8.2.3.8", "ring base, high"),
    _reg("RDLEN", _rx(0x08), "8.2.3.8", "ring bytes", mask=0x000F_FF80),
    _reg("DCA_RXCTRL", _rx(0x0C), "8.2.3.11", "DCA; bit 12 must be cleared", reset=0x1000,
         alias=(Run(0x02200, 16),)),
    _reg("RDH", _rx(0x10), "8.2.3.8", "head", mask=0xFFFF),
    _reg("SRRCTL", _rx(0x14), "8.2.3.8", "BSIZEPACKET 4:0 KB, DESCTYPE 27:25, DROP_EN 28",
         reset=0x402, alias=(Run(0x02100, 16),)),
    _reg("RDT", _rx(0x18), "8.2.3.8", "tail", mask=0xFFFF),
    _reg("RXDCTL", _rx(0x28), "8.2.3.8", "ENABLE 25, SWFLSH 26, VME 30", sc=0x0400_0000),
    _reg("RSCCTL", _rx(0x2C), "8.2.3.8", "RSC of a queue"),
)  # fmt: skip

TRANSMIT = (
    _reg("DMATXCTL", 0x04A80, "8.2.3.9", "TE 0, VLAN type 31:16", reset=0x8100_0000),
    _reg("DTXTCPFLGL", 0x04A88, "8.2.3.9", "TCP flags that segments keep: first 11:0, middle 27:16",
         reset=0x0F76_0FF6, mask=0x0FFF_0FFF),
    _reg("DTXTCPFLGH", 0x04A8C, "8.2.3.9", "TCP flags that the last segment keeps 11:0",
         reset=0x0000_0F7F, mask=0xFFF),
    _reg("DTXMXSZRQ", 0x08100, "8.2.3.9", "bytes in flight", reset=0x10, mask=0xFFF),
    _reg("MTQC", 0x08120, "8.2.3.9", "multiple transmit queues"),
    _reg("RTTDCS", 0x04900, "8.2.3.10", "ARBDIS 6", reset=0x00C0_0000),
    _reg("RTTDQSEL", 0x04904, "8.2.3.10", "queue select"),
    _reg("RTTBCNRC", 0x04984, "8.2.3.10", "rate of the selected queue"),
    _reg("TXPBSIZE", Run(0x0CC00, 8), "8.2.3.9", "packet buffer, KB in 19:10",
         mask=0x000F_FC00),
    _reg("TXPBTHRESH", Run(0x04950, 8), "8.2.3.9", "packet buffer threshold"),
    _reg("SECTXCTRL", 0x08800, "8.2.3.12", "security, transmit"),
    _reg("SECTXSTAT", 0x08804, "8.2.3.12", "ready 0, offload fused off 1", "RO", reset=3),
    _reg("SECTXMINIFG", 0x08810, "8.2.3.12", "gap"),
    _reg("PFDTXGSWC", 0x08220, "8.2.3.27", "loopback between pools"),
    _reg("TQSM", Run(0x08600, 32), "8.2.3.23", "queue to statistics counter",
         mask=0x0F0F_0F0F),
    _reg("TDBAL", _tx(0x00), "8.2.3.9", "ring base, low; 128-byte aligned", mask=0xFFFF_FF80),
    _reg("TDBAH", _tx(0x04), "8.2.3.9", "ring base, high"),
    _reg("TDLEN", _tx(0x08), "8.2.3.9", "ring bytes", mask=0x000F_FF80),
    _reg("DCA_TXCTRL", _tx(0x0C), "8.2.3.11", "DCA"),
    _reg("TDH", _tx(0x10), "8.2.3.9", "head", mask=0xFFFF),
    _reg("TDT", _tx(0x18), "8.2.3.9", "tail", mask=0xFFFF),
    _reg("TXDCTL", _tx(0x28), "8.2.3.9", "PTHRESH 6:0, HTHRESH 14:8, WTHRESH 22:16, ENABLE 25",
         sc=0x0400_0000),
    _reg("TDWBAL", _tx(0x38), "8.2.3.9", "head write-back: enable 0, address 31:2",
         mask=0xFFFF_FFFD),
    _reg("TDWBAH", _tx(0x3C), "8.2.3.9", "head write-back address, high"),
)  # fmt: skip

MISC = (
    _reg("FCTTV", Run(0x03200, 4), "8.2.3.3", "pause times"),
    _reg("FCRTL", Run(0x03220, 8), "8.2.3.3", "low watermark", mask=0x8007_FFF0),
    _reg("FCRTH", Run(0x03260, 8), "8.2.3.3", "high watermark", mask=0x8007_FFF0),
    _reg("FCRTV", 0x032A0, "8.2.3.3", "pause refresh"),
    _reg("FCCFG", 0x03D00, "8.2.3.3", "flow control configuration"),
    _reg("FDIRCTRL", 0x0EE00, "8.2.3.21", "flow director: INIT_DONE 3 follows a write"),
    _reg("FDIRHKEY", 0x0EE68, "8.2.3.21", "bucket hash key"),
    _reg("FDIRSKEY", 0x0EE6C, "8.2.3.21", "signature hash key"),
    _reg("FDIRCMD", 0x0EE2C, "8.2.3.21", "command 1:0", sc=3),
    _reg("ETQF", Run(0x05128, 8), "8.2.3.7", "ethertype filter"),
    _reg("ETQS", Run(0x0EC00, 8), "8.2.3.7", "ethertype queue"),
    _reg("SYNQF", 0x0EC30, "8.2.3.7", "SYN filter"),
    _reg("PFUTA", Run(0x0F400, 128), "8.2.3.27", "unicast table"),
    _reg("VMOLR", Run(0x0F000, 64), "8.2.3.27", "pool offload"),
    _reg("VLVF", Run(0x0F100, 64), "8.2.3.27", "pool VLAN filter"),
    _reg("VLVFB", Run(0x0F200, 128), "8.2.3.27", "pool VLAN bitmap"),
)

STATISTICS = (
    _stat("CRCERRS", 0x04000, "bad CRC"),
    _stat("ILLERRC", 0x04004, "illegal byte"),
    _stat("ERRBC", 0x04008, "error byte"),
    _stat("MSPDC", 0x04010, "short packet discarded"),
    _stat("MPC", Run(0x03FA0, 8), "missed: packet buffer full"),
    _stat("MLFC", 0x04034, "local faults"),
    _stat("MRFC", 0x04038, "remote faults"),
    _stat("RLEC", 0x04040, "length errors"),
    _stat("LXONTXC", 0x03F60, "XON sent"),
    _stat("LXOFFTXC", 0x03F68, "XOFF sent"),
    _stat("LXONRXCNT", 0x041A4, "XON received"),
    _stat("LXOFFRXCNT", 0x041A8, "XOFF received"),
    _stat("PXONTXC", Run(0x03F00, 8), "priority XON sent"),
    _stat("PXOFFTXC", Run(0x03F20, 8), "priority XOFF sent"),
    _stat("PXONRXCNT", Run(0x04140, 8), "priority XON received"),
    _stat("PXOFFRXCNT", Run(0x04160, 8), "priority XOFF received"),
    _stat("PXON2OFFCNT", Run(0x03240, 8), "XON to XOFF"),
    _stat("PRC64", 0x0405C, "good received, 64 bytes"),
    _stat("PRC127", 0x04060, "good received, 65 to 127 bytes"),
    _stat("PRC255", 0x04064, "good received, 128 to 255 bytes"),
    _stat("PRC511", 0x04068, "good received, 256 to 511 bytes"),
    _stat("PRC1023", 0x0406C, "good received, 512 to 1023 bytes"),
    _stat("PRC1522", 0x04070, "good received, 1024 bytes and more"),
    _stat("GPRC", 0x04074, "good received"),
    _stat("BPRC", 0x04078, "broadcast received"),
    _stat("MPRC", 0x0407C, "multicast received"),
    _stat("GPTC", 0x04080, "good transmitted"),
    _stat("GORCL", 0x04088, "good octets received, low"),
    _stat("GORCH", 0x0408C, "good octets received, high"),
    _stat("GOTCL", 0x04090, "good octets transmitted, low"),
    _stat("GOTCH", 0x04094, "good octets transmitted, high"),
    _stat("RNBC", Run(0x03FC0, 8), "82598 only"),
    _stat("RUC", 0x040A4, "undersize"),
    _stat("RFC", 0x040A8, "fragments"),
    _stat("ROC", 0x040AC, "oversize"),
    _stat("RJC", 0x040B0, "jabber"),
    _stat("MNGPRC", 0x040B4, "management received"),
    _stat("MNGPDC", 0x040B8, "management dropped"),
    _stat("MNGPTC", 0x0CF90, "management transmitted"),
    _stat("TORL", 0x040C0, "all octets received, low"),
    _stat("TORH", 0x040C4, "all octets received, high"),
    _stat("TPR", 0x040D0, "all received"),
    _stat("TPT", 0x040D4, "all transmitted"),
    _stat("PTC64", 0x040D8, "transmitted, 64 bytes"),
    _stat("PTC127", 0x040DC, "transmitted, 65 to 127 bytes"),
    _stat("PTC255", 0x040E0, "transmitted, 128 to 255 bytes"),
    _stat("PTC511", 0x040E4, "transmitted, 256 to 511 bytes"),
    _stat("PTC1023", 0x040E8, "transmitted, 512 to 1023 bytes"),
    _stat("PTC1522", 0x040EC, "transmitted, 1024 bytes and more"),
    _stat("MPTC", 0x040F0, "multicast transmitted"),
    _stat("BPTC", 0x040F4, "broadcast transmitted"),
    _stat("XEC", 0x04120, "IP checksum errors"),
    _stat("RXNFGPC", 0x041B0, "good received, not filtered out"),
    _stat("RXDGPC", 0x02F50, "packets given to memory"),
    _stat("RXDGBCL", 0x02F54, "octets given to memory, low"),
    _stat("RXDGBCH", 0x02F58, "octets given to memory, high"),
    _stat("TXDGPC", 0x087A0, "packets taken from memory"),
    _stat("SSVPC", 0x08780, "switch security violations"),
    _stat("FCCRC", 0x05118, "FCoE CRC"),
    _stat("FCOERPDC", 0x0241C, "FCoE dropped"),
    _stat("FCOEPRC", 0x02428, "FCoE received"),
    _stat("FCOEPTC", 0x08784, "FCoE transmitted"),
    _stat("FCOEDWRC", 0x0242C, "FCoE words received"),
    _stat("FCOEDWTC", 0x08788, "FCoE words transmitted"),
    _stat("FDIRMATCH", 0x0EE58, "flow director hits"),
    _stat("FDIRMISS", 0x0EE5C, "flow director misses"),
    _stat("QPRC", Run(0x01030, 16, 0x40), "packets received by counter"),
    _stat("QBRC_L", Run(0x01034, 16, 0x40), "bytes received by counter, low"),
    _stat("QBRC_H", Run(0x01038, 16, 0x40), "bytes received by counter, high"),
    _stat("QPRDC", Run(0x01430, 16, 0x40), "packets dropped by counter: no descriptor"),
    _stat("QPTC", Run(0x08680, 16), "packets transmitted by counter", (Run(0x06030, 16, 0x40),)),
    _stat("QBTC_L", Run(0x08700, 16, 8), "bytes transmitted by counter, low"),
    _stat("QBTC_H", Run(0x08704, 16, 8), "bytes transmitted by counter, high"),
)  # fmt: skip

TABLE: tuple[Register, ...] = (
    *GENERAL, *LINK, *INTERRUPT, *RECEIVE, *TRANSMIT, *MISC, *STATISTICS,
)  # fmt: skip
BY_NAME: dict[str, Register] = {register.name: register for register in TABLE}


def _decode() -> tuple[dict[int, Slot], dict[str, tuple[int, ...]]]:
    """Address -> Slot, and name -> storage key (first address) of each element."""
    slots: dict[int, Slot] = {}
    keys: dict[str, tuple[int, ...]] = {}
    for register in TABLE:
        own = [run.offset + i * run.stride for run in register.runs for i in range(run.elements)]
        keys[register.name] = tuple(own)
        places = list(enumerate(own))
        for run in register.aliases:
            places += [(i, run.offset + i * run.stride) for i in range(run.elements)]
        for index, offset in places:
            if offset in slots:
                raise ValueError(f"{register.name} and {slots[offset].register.name} overlap")
            slots[offset] = Slot(register, index, own[index])
    return slots, keys


DECODE, KEYS = _decode()


def name_of(offset: int) -> str:
    """Name of the register at a BAR0 offset, with its index; the offset itself if unlisted."""
    slot = DECODE.get(offset)
    if slot is None:
        return f"{offset:05x}"
    return (
        slot.register.name
        if slot.register.elements == 1
        else f"{slot.register.name}[{slot.element}]"
    )
