"""Configuration space of a root port: a PCI-to-PCI bridge with a slot below it.

Source: PCI-to-PCI Bridge Architecture 1.2 (header type 1), PCI Express base specification 2.1
chapter 7.8 (root port), with the identity of Intel's 6-series root ports. Chain: 40h PCI Express,
80h MSI, A0h power management.

Bus numbers and windows are stored, as firmware leaves them; a request here names its NIC, so
nothing is decoded by them. Left out: INTx of the port (its pin is 0), AER, PME, VGA.
"""

from __future__ import annotations

from nodes.configspace import Word

EXPRESS, MSI, PM = 0x40, 0x80, 0xA0
COMMAND, BRIDGE_CONTROL = 0x04, 0x3E
LNKCTL, LNKSTA = EXPRESS + 0x10, EXPRESS + 0x12
SLTCAP, SLTCTL, SLTSTA = EXPRESS + 0x14, EXPRESS + 0x18, EXPRESS + 0x1A
MSI_CONTROL, MSI_ADDRESS, MSI_DATA, MSI_MASK, MSI_PENDING = (
    MSI + 2, MSI + 4, MSI + 0xC, MSI + 0x10, MSI + 0x14,
)  # fmt: skip

SPEED_5GT, WIDTH = 0x2, 8 << 4
#: SltCap: power controller, two LEDs, surprise, hot-plug. There is no attention button: with one,
#: pciehp leaves it to a person's finger to switch a new card on.
_HOT_PLUG = 0x2 | 0x8 | 0x10 | 0x20 | 0x40
#: SltSta: button, power fault, MRL, presence, command completed, link state.
EVENTS = 0x011F


def port_words(slot: int, hotplug: bool) -> tuple[Word, ...]:
    """The table of the root port of ``slot``."""
    below = slot + 1
    return (
        Word(0x00, 0x1C10 + 2 * slot << 16 | 0x8086),
        Word(0x04, 0x00100000, 0x00000547, 0xF9000000),
        Word(0x08, 0x060400B5),
        Word(0x0C, 0x00810000, 0x000000FF),  # type 1, one of several functions
        Word(0x18, below << 16 | below << 8, 0x00FFFFFF),
        Word(0x1C, 0x000000F0, 0x0000F0F0, 0xF9000000),
        Word(0x20, 0x0000FFF0, 0xFFF0FFF0),
        Word(0x24, 0x0001FFF1, 0xFFF0FFF0),
        Word(0x28, 0x00000000, 0xFFFFFFFF),
        Word(0x2C, 0x00000000, 0xFFFFFFFF),
        Word(0x34, EXPRESS),
        Word(0x3C, 0x00000000, 0x005F00FF),
        Word(EXPRESS, 0x0142 << 16 | MSI << 8 | 0x10),  # root port, slot implemented, version 2
        Word(EXPRESS + 0x04, 0x00008000),
        Word(EXPRESS + 0x08, 0x00000000, 0x000000EF, 0x000F0000),
        Word(EXPRESS + 0x0C, below << 24 | 0x00180000 | WIDTH | SPEED_5GT),  # DLL active reporting
        Word(LNKCTL, 0x20000000 | (WIDTH | SPEED_5GT) << 16, 0x000001DB),
        Word(SLTCAP, below << 19 | (_HOT_PLUG if hotplug else 0)),
        Word(SLTCTL, 0x004001C0, 0x00001FFF if hotplug else 0, EVENTS << 16),
        Word(EXPRESS + 0x1C, 0x00000000, 0x0000001F),
        Word(EXPRESS + 0x24, 0x00000000),
        Word(EXPRESS + 0x28, 0x00000000, 0x0000001F),
        Word(EXPRESS + 0x30, 0x00000002, 0x0000FFFF),
        Word(MSI, 0x0180 << 16 | PM << 8 | 0x05, 0x00010000),
        Word(MSI_ADDRESS, 0x00000000, 0xFFFFFFFC),
        Word(MSI_ADDRESS + 4, 0x00000000, 0xFFFFFFFF),
        Word(MSI_DATA, 0x00000000, 0x0000FFFF),
        Word(MSI_MASK, 0x00000000, 0x00000001),
        Word(PM, 0xC8030001),
        Word(PM + 4, 0x00000008, 0x00000103, 0x00008000),
    )
