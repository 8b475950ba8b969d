"""General, EEPROM, semaphore, management, PCIe and wake-up registers (datasheet 8.2.3.1-4, 24-25).

ESDP comes out of the EEPROM of an SFP+ board with SDP3 (laser off) and SDP5 (rate select) as
outputs.
"""

from __future__ import annotations

from nodes.nic.table.row import Run, reg

GENERAL = (
    reg("CTRL", 0x00000, "8.2.3.1", "device control",
        "GIO_DIS 2, LNK_RST 3, RST 26", mask=0x0400_000C, sc=0x0400_0008),
    reg("STATUS", 0x00008, "8.2.3.1", "device status",
        "LAN_ID 3:2, LINKUP 7, NUM_VFS 17:10, IOV_ACTIVE 18, GIO_STATUS 19", "RO",
        reset=0x0008_0000),
    reg("CTRL_EXT", 0x00018, "8.2.3.1", "extended device control",
        "PFRSTD 14, NS_DIS 16, RO_DIS 17, EXTENDED_VLAN 26, DRV_LOAD 28"),
    reg("ESDP", 0x00020, "8.2.3.1", "software definable pins of the board",
        "SDP0 0, SDP1 1, MODULE_PRESENT 2, LASER_OFF 3, SDP4 4, RATE_10G 5, SDP6 6, SDP7 7, "
        "DIRECTION 15:8, SDP0_NATIVE 16, SDP1_NATIVE 17", reset=0x0000_2804),
    reg("I2CCTL", 0x00028, "8.2.3.1", "I2C pins to the SFP+ cage, open drain",
        "CLK_IN 0, CLK_OUT 1, DATA_IN 2, DATA_OUT 3", reset=0xF, mask=0xA),
    reg("LEDCTL", 0x00200, "8.2.3.1", "LEDs",
        "LED0_MODE 3:0, LED0_INVERT 6, LED0_BLINK 7, LED1_MODE 11:8, LED1_INVERT 14, "
        "LED1_BLINK 15, LED2_MODE 19:16, LED2_INVERT 22, LED2_BLINK 23, LED3_MODE 27:24, "
        "LED3_INVERT 30, LED3_BLINK 31"),
    reg("FRTIMER", 0x00048, "8.2.3.5", "free-running timer", access="RO"),
    reg("TCPTIMER", 0x0004C, "8.2.3.5", "TCP timer",
        "DURATION_MS 7:0, KICK_START 8, ENABLE 9, FINISH 10, LOOP 11"),
    reg("CORECTL", 0x14F00, "8.2.3.22", "core control: the SFP+ initialisation words go here",
        access="WO"),
)  # fmt: skip

EEPROM = (
    reg("EEC", 0x10010, "8.2.3.2", "EEPROM and flash control",
        "SK 0, CS 1, DI 2, DO 3, FWE 5:4, REQ 6, GNT 7, PRES 8, ARD 9, ADDR_SIZE 10, SIZE 14:11",
        reset=0x0000_4510, mask=0x0000_0077),
    reg("EERD", 0x10014, "8.2.3.2", "EEPROM read",
        "START 0, DONE 1, ADDRESS 15:2, DATA 31:16"),
    reg("EEWR", 0x10018, "8.2.3.2", "EEPROM write",
        "START 0, DONE 1, ADDRESS 15:2, DATA 31:16"),
    reg("FLA", 0x1001C, "8.2.3.2", "flash access",
        "FL_SCK 0, FL_CE 1, FL_SI 2, FL_SO 3, FL_REQ 4, FL_GNT 5, FL_BUSY 30, FL_ER 31",
        mask=0x0000_0017),
    reg("EEMNGCTL", 0x10110, "8.2.3.2", "manageability EEPROM control", access="RO"),
    reg("EEMNGDATA", 0x10114, "8.2.3.2", "manageability EEPROM data", access="RO"),
    reg("FLMNGCTL", 0x10118, "8.2.3.2", "manageability flash control", access="RO"),
    reg("FLMNGDATA", 0x1011C, "8.2.3.2", "manageability flash data", access="RO"),
    reg("FLMNGCNT", 0x10120, "8.2.3.2", "manageability flash count", access="RO"),
    reg("FLOP", 0x1013C, "8.2.3.2", "flash opcodes"),
    reg("GRC", 0x10200, "8.2.3.2", "general receive control", "MNG_EN 0, APME 1"),
)  # fmt: skip

SEMAPHORE = (
    reg("SWSM", 0x10140, "8.2.3.4", "software semaphore", "SMBI 0, SWESMBI 1, WMNG 2", "RS",
        mask=3, survives=True),
    reg("FWSM", 0x10148, "8.2.3.4", "firmware semaphore",
        "THERMAL 0, MODE 3:1, RECOVERY 5, FW_VALID 15, EXT_ERR 24:19", "RO", reset=0x8000,
        values={"MODE": {0: "none", 2: "pass-through", 3: "dash", 4: "MAC"}}, survives=True),
    reg("GSSR", 0x10160, "8.2.3.4", "owners of shared resources (SW_FW_SYNC)",
        "SW_EEPROM 0, SW_PHY0 1, SW_PHY1 2, SW_MAC_CSR 3, SW_FLASH 4, FW_EEPROM 5, FW_PHY0 6, "
        "FW_PHY1 7, FW_MAC_CSR 8, FW_FLASH 9, SW_MNG 10, FW_MNG 15", survives=True),
    reg("FACTPS", 0x10150, "8.2.3.4", "function active and power state",
        "MNG_CLOCK_GATED 29, LAN_FUNCTION_SEL 30, PM_STATE_CHANGED 31", "RO", survives=True),
    reg("MANC", 0x05820, "8.2.3.25", "management control", "RCV_TCO_EN 17, BMC2OS 28", "RO"),
    reg("MMNGC", 0x042D0, "8.2.3.25", "management veto on link changes", "MNG_VETO 0", "RO"),
    reg("HICR", 0x15F00, "8.2.3.25", "host interface: EN 0, no firmware takes commands",
        "EN 0, C 1, SV 2", "RO", survives=True),
    reg("FWSTS", 0x15F0C, "8.2.3.25", "firmware status", "FWRI 9", "W1C", survives=True),
    reg("FLEX_MNG", Run(0x15800, 448), "8.2.3.25", "host interface mailbox", survives=True),
)  # fmt: skip

PCIE = (
    reg("GCR", 0x11000, "8.2.3.4", "PCIe control",
        "TIMEOUT 15:12, TIMEOUT_RESEND 16, CAP_VER2 18"),
    reg("GSCL", (Run(0x11010, 2), Run(0x11030, 2)), "8.2.3.4", "PCIe statistics control"),
    reg("GSCN", Run(0x11020, 4), "8.2.3.4", "PCIe statistics", access="RO"),
    reg("GCR_EXT", 0x11050, "8.2.3.4", "PCIe control, extended",
        "VT_MODE 1:0, BUFFERS_CLEAR 30, MSIX_EN 31",
        values={"VT_MODE": ("off", "16 pools", "32 pools", "64 pools")}),
    reg("DCA_ID", 0x11070, "8.2.3.11", "requester id for DCA", access="RO"),
    reg("DCA_CTRL", 0x11074, "8.2.3.11", "DCA control", "DCA_DIS 0, DCA_MODE 4:1"),
    reg("CIAA", 0x11088, "8.2.3.4", "indirect configuration access, address"),
    reg("CIAD", 0x1108C, "8.2.3.4", "indirect configuration access, data", access="RO"),
    reg("PCIE_DIAG", Run(0x11090, 8), "8.2.3.4", "PCIe diagnostics", access="RO"),
    reg("BARCTRL", 0x110F4, "8.2.3.4", "BAR sizes",
        "FLSIZE 8:7, CSRSIZE 13, BAR32 14", "RO"),
)  # fmt: skip

WAKE_UP = (
    reg("WUC", 0x05800, "8.2.3.24", "wake-up control", "PME_EN 1, PME_STATUS 2, WKEN 4"),
    reg("WUFC", 0x05808, "8.2.3.24", "wake-up filters",
        "LNKC 0, MAG 1, EX 2, MC 3, BC 4, ARP 5, IPV4 6, IPV6 7, FLX 21:16"),
    reg("WUS", 0x05810, "8.2.3.24", "wake-up status", access="W1C"),
    reg("IPAV", 0x05838, "8.2.3.24", "wake-up addresses valid"),
    reg("IP4AT", Run(0x05840, 4, 8), "8.2.3.24", "wake-up IPv4 addresses"),
    reg("IP6AT", Run(0x05880, 4), "8.2.3.24", "wake-up IPv6 address"),
    reg("WUPL", 0x05900, "8.2.3.24", "wake-up packet length", access="RO"),
    reg("WUPM", Run(0x05A00, 32), "8.2.3.24", "wake-up packet", access="RO"),
    reg("FHFT", Run(0x09000, 256), "8.2.3.24", "flexible host filters"),
)  # fmt: skip

TABLE = (*GENERAL, *EEPROM, *SEMAPHORE, *PCIE, *WAKE_UP)
