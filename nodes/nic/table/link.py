"""MAC, link and MDIO registers (datasheet 8.2.3.22) and flow control (8.2.3.3).

AUTOC comes out of the EEPROM of an SFP+ board as LMS = 3 (10G serial), AUTOC2 as SFI.
"""

from __future__ import annotations

from nodes.nic.table.row import Run, reg

LMS = (
    "1G without negotiation", "10G parallel", "1G with negotiation", "10G serial (SFI)",
    "KX4/KX/KR", "SGMII", "KX4/KX/KR and 1G", "KX4/KX/KR and SGMII",
)  # fmt: skip

LINK = (
    reg("PCS1GCFIG", 0x04200, "8.2.3.22", "1G PCS configuration"),
    reg("PCS1GLCTL", 0x04208, "8.2.3.22", "1G PCS link control",
        "FLV 0, FORCE_LINK 5, LATCH_LOW 6, AN_ENABLE 16, AN_RESTART 17, AN_TIMEOUT_EN 18"),
    reg("PCS1GLSTA", 0x0420C, "8.2.3.22", "1G PCS link status",
        "LINK_OK 0, SYNC_OK 4, AN_COMPLETE 16, AN_PAGE_RX 17, AN_TIMED_OUT 18, AN_REMOTE_FAULT 19",
        "RO"),
    reg("PCS1GDBG", Run(0x04210, 2), "8.2.3.22", "1G PCS debug", access="RO"),
    reg("PCS1GANA", 0x04218, "8.2.3.22", "1G AN advertisement", "SYM_PAUSE 7, ASM_PAUSE 8"),
    reg("PCS1GANLP", 0x0421C, "8.2.3.22", "1G AN partner", "SYM_PAUSE 7, ASM_PAUSE 8", "RO"),
    reg("PCS1GANNP", 0x04220, "8.2.3.22", "1G AN next page"),
    reg("PCS1GANLPNP", 0x04224, "8.2.3.22", "1G AN partner's next page", access="RO"),
    reg("HLREG0", 0x04240, "8.2.3.22", "MAC highlander control 0",
        "TXCRCEN 0, RXCRCSTRP 1, JUMBOEN 2, TXPADEN 10, LPBK 15, MDCSPD 16, CONTMDC 17, "
        "CTRLFLTR 18, PREPEND 23:20, RXLNGTHERREN 27, RXPADSTRIPEN 28", reset=0x0801_0403),
    reg("HLREG1", 0x04244, "8.2.3.22", "MAC highlander control 1", access="RO"),
    reg("PAP", 0x04248, "8.2.3.22", "pause and pace"),
    reg("MACA", 0x0424C, "8.2.3.22", "MDI auto-scan command"),
    reg("APAE", 0x04250, "8.2.3.22", "auto-scan PHY address enable"),
    reg("ARD", 0x04254, "8.2.3.22", "auto-scan read data", access="RO"),
    reg("AIS", 0x04258, "8.2.3.22", "auto-scan interrupt status", access="RO"),
    reg("MSCA", 0x0425C, "8.2.3.22", "MDI single command and address",
        "ADDRESS 15:0, DEVICE 20:16, PORT 25:21, OP 27:26, OLD_PROTOCOL 28, MDI_COMMAND 30, "
        "IN_PROGRESS_EN 31", sc=0x4000_0000,
        values={"OP": ("address", "write", "read, increment", "read")}),
    reg("MSRWD", 0x04260, "8.2.3.22", "MDI single read and write data",
        "WRITE_DATA 15:0, READ_DATA 31:16", reset=0xFFFF_0000, mask=0x0000_FFFF),
    reg("MLADD", 0x04264, "8.2.3.22", "MAC address low"),
    reg("MAXFRS", 0x04268, "8.2.3.22", "largest frame, with FCS (JUMBOEN)", "MFS 31:16",
        reset=0x05EE_0000, mask=0xFFFF_0000),
    reg("TREG", 0x0426C, "8.2.3.22", "test register"),
    reg("PCSS", Run(0x04288, 2), "8.2.3.22", "XGXS status", access="RO"),
    reg("XPCSS", 0x04290, "8.2.3.22", "10GBASE-X PCS status", access="RO"),
    reg("MFLCN", 0x04294, "8.2.3.3", "MAC flow control",
        "PMCF 0, DPF 1, RPFCE 2, RFCE 3, RPFCE_BY_PRIORITY 11:4"),
    reg("SERDESC", 0x04298, "8.2.3.22", "SerDes interface control", access="RO"),
    reg("MACS", 0x0429C, "8.2.3.22", "FIFO status", access="RO"),
    reg("AUTOC", 0x042A0, "8.2.3.22", "auto-negotiation control",
        "FLU 0, 10G_PMA_PARALLEL 8:7, 1G_PMA 9, AN_RESTART 12, LMS 15:13, KR 16, FEC_REQ 17, "
        "FEC_ABILITY 18, AN_RX_LOOSE 24:23, PD_TIMER 26:25, RF 27, SYM_PAUSE 28, ASM_PAUSE 29, "
        "KX 30, KX4 31", reset=0x6000, sc=0x1000, values={"LMS": LMS}),
    reg("LINKS", 0x042A4, "8.2.3.22", "link status", "UP_COPY 7, SPEED 29:28, UP 30", "RO",
        values={"SPEED": ("unknown", "100M", "1G", "10G")}),
    reg("AUTOC2", 0x042A8, "8.2.3.22", "auto-negotiation control 2",
        "10G_PMA_SERIAL 17:16, LINK_DISABLE 30:28", reset=0x0002_0000,
        values={"10G_PMA_SERIAL": ("KR", "XFI", "SFI")}),
    reg("AUTOC3", 0x042AC, "8.2.3.22", "auto-negotiation control 3"),
    reg("ANLP1", 0x042B0, "8.2.3.22", "negotiation, partner", "PAUSE 11:10, AN_STATE 19:16",
        "RO"),
    reg("ANLP2", 0x042B4, "8.2.3.22", "negotiation, partner 2", access="RO"),
    reg("LINKS2", 0x04324, "8.2.3.22", "link status 2", "PARTNER_AN 6", "RO"),
    reg("MACC", 0x04330, "8.2.3.22", "MAC control", "FLU 0, FSV 17:16, FS 18"),
    reg("ATLASCTL", 0x04800, "8.2.3.22", "analog configuration"),
)  # fmt: skip

FLOW_CONTROL = (
    reg("PFCTOP", 0x03008, "8.2.3.3", "priority flow control type opcode"),
    reg("FCTTV", Run(0x03200, 4), "8.2.3.3", "pause times of two priorities",
        "TTV_EVEN 15:0, TTV_ODD 31:16"),
    reg("FCRTL", Run(0x03220, 8), "8.2.3.3", "low watermark", "RTL 18:5, XONE 31",
        mask=0x8007_FFF0),
    reg("FCRTH", Run(0x03260, 8), "8.2.3.3", "high watermark", "RTH 18:5, FCEN 31",
        mask=0x8007_FFF0),
    reg("FCRTV", 0x032A0, "8.2.3.3", "pause refresh", "FC_REFRESH_TH 15:0"),
    reg("FCCFG", 0x03D00, "8.2.3.3", "flow control configuration", "TFCE 4:3",
        values={"TFCE": ("off", "802.3x", "by priority")}),
    reg("TFCS", 0x0CE00, "8.2.3.3", "transmit flow control status", "TC_XON 7:0", "RO",
        reset=0xFF),
)  # fmt: skip

TABLE = (*LINK, *FLOW_CONTROL)
