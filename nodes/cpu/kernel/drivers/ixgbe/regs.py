"""Registers and bits of the 82599 that the driver uses; names are the datasheet's."""

from __future__ import annotations

CTRL, STATUS, CTRL_EXT, ESDP = 0x00000, 0x00008, 0x00018, 0x00020
EEC, EERD, SWSM, FWSM = 0x10010, 0x10014, 0x10140, 0x10148
EICR, EICS, EIMS, EIMC, EIAC, GPIE = 0x00800, 0x00808, 0x00880, 0x00888, 0x00810, 0x00898
IVAR_MISC, LINKS, AUTOC = 0x00A00, 0x042A4, 0x042A0
RXCTRL, RDRXCTL, FCTRL, HLREG0, RXCSUM = 0x03000, 0x02F00, 0x05080, 0x04240, 0x05000
MRQC, SECRXCTRL, SECRXSTAT = 0x05818, 0x08D00, 0x08D04
DMATXCTL, RTTDCS, MTQC = 0x04A80, 0x04900, 0x08120
CRCERRS, GPRC, BPRC, MPRC, GPTC = 0x04000, 0x04074, 0x04078, 0x0407C, 0x04080
GORCL, GORCH, GOTCL, GOTCH, TPR, RLEC = 0x04088, 0x0408C, 0x04090, 0x04094, 0x040D0, 0x04040

CTRL_GIO_DIS, CTRL_RST = 0x4, 0x0400_0000
STATUS_GIO = 0x0008_0000
CTRL_EXT_DRV_LOAD, CTRL_EXT_NS_DIS, CTRL_EXT_PFRSTD = 0x1000_0000, 0x0001_0000, 0x0000_4000
ESDP_SDP3 = 0x8  # data bit, 1: laser off
ESDP_SDP3_DIR = 0x800  # it is an output
EEC_PRES, EEC_ARD = 0x100, 0x200
EERD_START, EERD_DONE = 0x1, 0x2
EICR_LSC = 0x0010_0000
LINKS_UP, LINKS_SPEED, LINKS_SPEED_10G = 0x4000_0000, 0x3000_0000, 0x3000_0000
RXCTRL_RXEN, DMATXCTL_TE, RDRXCTL_DMAIDONE = 0x1, 0x1, 0x8
FCTRL_BAM, FCTRL_UPE, FCTRL_MPE = 0x400, 0x200, 0x100
RXCSUM_PCSD = 0x2000
MRQC_RSS_IPV4_TCP = 0x0033_0001  # RSS on; TCP/IPv4, IPv4, IPv6, TCP/IPv6
DCTL_ENABLE, DCTL_SWFLSH = 0x0200_0000, 0x0400_0000
RTTDCS_ARBDIS = 0x40
SECRX_RX_DIS, SECRX_RDY = 0x2, 0x1
#: MSIX_MODE, EIAME, PBA_SUPPORT, OCD and the two SDP causes (82599.md 8.6)
GPIE_MSIX = 0xC000_0036
EIAC_ALL = 0x4000_FFFF
#: other causes that the driver wants: LSC, mailbox, SDP1, SDP2, ECC, TCP timer, summary
EIMS_OTHER = 0xD628_0000 | EICR_LSC
EITR_CNT_WDIS = 0x8000_0000
ITR_START = 0xC8  # 50 us << 2: the adaptive algorithm's start
EITR_OTHER = 1950  # value of the driver for the last vector

RAH_AV = 0x8000_0000
SRRCTL_ONE_BUFFER = 0x0200_0402  # 2 KiB buffers, 256 byte headers, advanced one-buffer
TXDCTL_THRESHOLDS = 32 | 1 << 8 | 8 << 16  # PTHRESH 32, HTHRESH 1, WTHRESH 8

#: Advanced transmit data descriptor: EOP, IFCS, RS, DEXT, DTYP 3
TXD_CMD = 0x2B30_0000
TXD_STAT_DD = 0x1
RXD_STAT_DD, RXD_STAT_EOP, RXD_ERR_RXE = 0x1, 0x2, 0x2000_0000

IXGBE_FAILED_READ_RETRIES = 5


def eitr(vector: int) -> int:
    return 0x00820 + 4 * vector


def ivar(pair: int) -> int:
    return 0x00900 + 4 * pair


def eims_ex(index: int) -> int:
    return 0x00AA0 + 4 * index


def eimc_ex(index: int) -> int:
    return 0x00AB0 + 4 * index


def eiam_ex(index: int) -> int:
    return 0x00AD0 + 4 * index


def eics_ex(index: int) -> int:
    return 0x00A90 + 4 * index


def ral(index: int) -> int:
    return 0x05400 + 8 * index


def reta(index: int) -> int:
    return 0x05C00 + 4 * index


def rssrk(index: int) -> int:
    return 0x05C80 + 4 * index


def srrctl(queue: int) -> int:
    return 0x02100 + 4 * queue


def rx_queue(queue: int) -> int:
    """RDBAL; RDBAH +4, RDLEN +8, RDH +10h, RDT +18h, RXDCTL +28h."""
    return 0x01000 + 0x40 * queue


def tx_queue(queue: int) -> int:
    """TDBAL; TDBAH +4, TDLEN +8, TDH +10h, TDT +18h, TXDCTL +28h."""
    return 0x06000 + 0x40 * queue


def mpc(index: int) -> int:
    return 0x03FA0 + 4 * index


def qprdc(index: int) -> int:
    return 0x01430 + 0x40 * index
