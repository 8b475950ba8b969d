"""Registers and bits of the 82599 that the driver uses; names are the datasheet's."""

from __future__ import annotations

# general, EEPROM, semaphores, firmware
CTRL, STATUS, CTRL_EXT, ESDP, I2CCTL, LEDCTL = 0x00000, 0x00008, 0x00018, 0x00020, 0x00028, 0x00200
EEC, EERD, SWSM, FWSM, FACTPS, GSSR = 0x10010, 0x10014, 0x10140, 0x10148, 0x10150, 0x10160
WUS, MANC, MMNGC, HICR, FWSTS, CORECTL = 0x05810, 0x05820, 0x042D0, 0x15F00, 0x15F0C, 0x14F00
DCA_CTRL = 0x11074
# link
AUTOC, AUTOC2, LINKS, ANLP1, MSCA, MSRWD = 0x042A0, 0x042A8, 0x042A4, 0x042B0, 0x0425C, 0x04260
PCS1GLCTL, PCS1GANA, HLREG0, MAXFRS = 0x04208, 0x04218, 0x04240, 0x04268
MFLCN, FCCFG, FCRTV = 0x04294, 0x03D00, 0x032A0
# interrupts
EICR, EICS, EIMS, EIMC, EIAC = 0x00800, 0x00808, 0x00880, 0x00888, 0x00810
GPIE, IVAR_MISC = 0x00898, 0x00A00
# receive
RXCTRL, RDRXCTL, FCTRL, RXCSUM, RFCTL, RSCDBU = 0x03000, 0x02F00, 0x05080, 0x05000, 0x05008, 0x03028
MRQC, VLNCTRL, MCSTCTRL, PFVTCTL = 0x05818, 0x05088, 0x05090, 0x051B0
SECRXCTRL, SECRXSTAT, SECTXSTAT, PFDTXGSWC = 0x08D00, 0x08D04, 0x08804, 0x08220
FDIRCTRL, FDIRHKEY, FDIRSKEY = 0x0EE00, 0x0EE68, 0x0EE6C
# transmit
DMATXCTL, RTTDCS, MTQC, RTTDQSEL, RTTBCNRC = 0x04A80, 0x04900, 0x08120, 0x04904, 0x04984

CTRL_GIO_DIS, CTRL_LNK_RST, CTRL_RST = 0x4, 0x8, 0x0400_0000
CTRL_RST_MASK = CTRL_LNK_RST | CTRL_RST
STATUS_LAN_ID, STATUS_LAN_ID_SHIFT, STATUS_GIO = 0xC, 2, 0x0008_0000
CTRL_EXT_DRV_LOAD, CTRL_EXT_NS_DIS, CTRL_EXT_PFRSTD = 0x1000_0000, 0x0001_0000, 0x0000_4000
ESDP_SDP2 = 0x4  # a module is in the cage
ESDP_SDP3 = 0x8  # data bit, 1: laser off
ESDP_SDP3_DIR = 0x800  # it is an output
I2C_CLK_IN, I2C_CLK_OUT, I2C_DATA_IN, I2C_DATA_OUT = 0x1, 0x2, 0x4, 0x8
EEC_PRES, EEC_SIZE, EEC_SIZE_SHIFT = 0x100, 0x7800, 11
EERD_START, EERD_DONE = 0x1, 0x2
SWSM_SMBI, SWSM_SWESMBI = 0x1, 0x2
GSSR_PHY0_SM, GSSR_PHY1_SM, GSSR_MAC_CSR_SM, GSSR_SW_MNG_SM = 0x2, 0x4, 0x8, 0x400
FWSM_MODE_MASK, FWSM_MODE_PT, FWSM_FW_VALID, FWSM_EXT_ERR = 0xE, 0x4, 0x8000, 0x01F8_0000
FACTPS_LFS, FACTPS_MNGCG, MANC_RCV_TCO_EN = 0x4000_0000, 0x2000_0000, 0x0002_0000
FWSTS_FWRI, MMNGC_MNG_VETO = 0x200, 0x1
EICR_LSC, EICR_FLOW_DIR = 0x0010_0000, 0x0001_0000
LINKS_UP, LINKS_SPEED = 0x4000_0000, 0x3000_0000
AUTOC_AN_RESTART, AUTOC_LMS_10G_SERIAL = 0x1000, 0x6000
AUTOC2_UPPER_MASK, AUTOC2_LINK_DISABLE_MASK, ANLP1_AN_STATE_MASK = 0xFFFF_0000, 0x7000_0000, 0xF0000
MSCA_MDI_COMMAND, MSCA_READ = 0x4000_0000, 0x0C00_0000
RXCTRL_RXEN, DMATXCTL_TE = 0x1, 0x1
RDRXCTL_CRCSTRIP, RDRXCTL_RSCFRSTSIZE = 0x2, 0x003E_0000
RDRXCTL_RSCACKC, RDRXCTL_FCOE_WRFIX = 0x0200_0000, 0x0400_0000
RSCDBU_RSCACKDIS, RFCTL_RSC_NFS_DIS = 0x80, 0xE0
HLREG0_JUMBOEN, HLREG0_LPBK = 0x4, 0x8000
FCTRL_BAM, FCTRL_UPE, FCTRL_MPE, FCTRL_SBP = 0x400, 0x200, 0x100, 0x2
FCTRL_DPF, FCTRL_PMCF = 0x2000, 0x1000
VLNCTRL_VFE, RXDCTL_VME = 0x4000_0000, 0x4000_0000
MCSTCTRL_MFE = 0x4
RXCSUM_PCSD = 0x2000
MRQC_RSS_IPV4_TCP = 0x0033_0001  # RSS on; TCP/IPv4, IPv4, IPv6, TCP/IPv6
PSRTYPE_ALL = 0x1330  # TCP, UDP, IPv4, IPv6 and L2 headers
DCTL_ENABLE, DCTL_SWFLSH = 0x0200_0000, 0x0400_0000
RTTDCS_ARBDIS = 0x40
SECRX_RX_DIS, SECRX_RDY, SEC_OFF = 0x2, 0x1, 0x2
MFLCN_DPF, MFLCN_RFCE, FCCFG_TFCE_802_3X = 0x2, 0x8, 0x8
FCRTL_XONE, FCRTH_FCEN = 0x8000_0000, 0x8000_0000
FDIRCTRL_INIT_DONE = 0x8
#: signature filters of 64 KB with their usual lengths
FDIRCTRL_SIGNATURE = 0x4A06_0001
FDIR_BUCKET_HASH_KEY, FDIR_SIGNATURE_HASH_KEY = 0x3DAD_14E2, 0x174D_3614
#: MSIX_MODE, EIAME, PBA_SUPPORT, OCD and the two SDP causes (82599.md 8.6)
GPIE_MSIX = 0xC000_0036
EIAC_ALL = 0x4000_FFFF
#: other causes that the driver wants: LSC, mailbox, SDP1, SDP2, ECC, TCP timer, summary
EIMS_OTHER = 0xD608_0000 | EICR_LSC
EICR_OTHER = 0x8000_0000
EITR_CNT_WDIS = 0x8000_0000
EITR_INTERVAL = 0xFF8
EITR_OTHER = 1950  # value of the driver for the last vector

RAH_AV = 0x8000_0000
RAR_ENTRIES, RAR_ALIASED = 128, 16
SRRCTL_ONE_BUFFER = 0x0200_0402  # 2 KiB buffers, 256 byte headers, advanced one-buffer
SRRCTL_DROP_EN = 0x1000_0000
#: PTHRESH 32, HTHRESH 1; WTHRESH is 8, or 1 when interrupts come at more than 100,000/s
TXDCTL_THRESHOLDS, TXDCTL_WTHRESH_8, TXDCTL_WTHRESH_1 = 32 | 1 << 8, 8 << 16, 1 << 16

#: Advanced transmit data descriptor: IFCS, DEXT, DTYP 3; the last of a frame has EOP and RS too
TXD_CMD, TXD_LAST = 0x2230_0000, 0x0900_0000
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
    """RAL; RAH +4. The driver uses the older addresses of the first sixteen."""
    return (0x05400 if index < RAR_ALIASED else 0x0A200) + 8 * index


def mpsar(index: int) -> int:
    """MPSAR_LO; MPSAR_HI +4."""
    return 0x0A600 + 8 * index


def mta(index: int) -> int:
    return 0x05200 + 4 * index


def vfta(index: int) -> int:
    return 0x0A000 + 4 * index


def pfuta(index: int) -> int:
    return 0x0F400 + 4 * index


def vlvf(index: int) -> int:
    return 0x0F100 + 4 * index


def vlvfb(index: int) -> int:
    return 0x0F200 + 4 * index


def vmolr(pool: int) -> int:
    return 0x0F000 + 4 * pool


def rxpbsize(index: int) -> int:
    return 0x03C00 + 4 * index


def txpbsize(index: int) -> int:
    return 0x0CC00 + 4 * index


def txpbthresh(index: int) -> int:
    return 0x04950 + 4 * index


def fcttv(index: int) -> int:
    return 0x03200 + 4 * index


def fcrtl(index: int) -> int:
    return 0x03220 + 4 * index


def fcrth(index: int) -> int:
    return 0x03260 + 4 * index


def etqf(index: int) -> int:
    return 0x05128 + 4 * index


def etqs(index: int) -> int:
    return 0x0EC00 + 4 * index


def reta(index: int) -> int:
    return 0x05C00 + 4 * index


def rssrk(index: int) -> int:
    return 0x05C80 + 4 * index


def psrtype(pool: int) -> int:
    return 0x05480 + 4 * pool


def srrctl(queue: int) -> int:
    return 0x02100 + 4 * queue


def dca_rxctrl(queue: int) -> int:
    return 0x02200 + 4 * queue


def rx_queue(queue: int) -> int:
    """RDBAL; RDBAH +4, RDLEN +8, RDH +10h, RDT +18h, RXDCTL +28h."""
    return 0x01000 + 0x40 * queue if queue < 64 else 0x0D000 + 0x40 * (queue - 64)


def tx_queue(queue: int) -> int:
    """TDBAL; TDBAH +4, TDLEN +8, DCA_TXCTRL +0Ch, TDH +10h, TDT +18h, TXDCTL +28h."""
    return 0x06000 + 0x40 * queue
