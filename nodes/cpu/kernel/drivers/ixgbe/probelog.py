"""What the driver says of a port when it has found it: bus, MAC, PHY, module, board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import pci
from nodes.cpu.kernel.drivers.ixgbe import common, eeprom, phy
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.hw import driver_prefix
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PRODUCT = "Intel(R) 10 Gigabit Network Connection"
UNSUPPORTED = (
    "failed to load because an unsupported SFP+ or QSFP module type was detected.",
    "Reload the driver after installing a supported module.",
)
PCI_LNKSTA = 0xB2
_MAC_82599 = 2
_GENERATIONS = {1: 2.5, 2: 5.0, 3: 8.0}


def print_probe(cpu: Cpu, adapter: Adapter) -> Context:
    """The end of ixgbe_probe; the order is each era's own."""
    prefix = driver_prefix(cpu, adapter)
    mac = adapter.netdev.dev_addr.hex(":")
    queues = len(adapter.rings)
    enabled = "Enabled" if queues > 1 else "Disabled"
    counts = f"Rx Queue count = {queues}, Tx Queue count = {queues}"
    xdp = " XDP Queue count = 0" if cpu.params.log_format == "6.1" else ""
    printk(cpu, f"{prefix}: Multiqueue {enabled}: {counts}{xdp}")
    yield from eeprom.read_word(cpu, adapter, eeprom.DEVICE_CAPS)  # wake-up
    yield from eeprom.read_nvm_version(cpu, adapter)
    yield from common.set_lan_id(cpu, adapter)
    status = yield from pci.read_config(cpu, adapter.nic, PCI_LNKSTA, 2)
    width, speed = status >> 4 & 0x3F, _GENERATIONS.get(status & 0xF, 0.0)
    pba = yield from eeprom.read_pba(cpu, adapter)
    board = f"{_phy(cpu, adapter)}, PBA No: {pba}"
    if cpu.params.log_format == "6.1":
        rate = speed * width * 8 / 10
        printk(
            cpu,
            f"{prefix}: {rate:.3f} Gb/s available PCIe bandwidth ({speed} GT/s PCIe x{width} link)",
        )
        printk(cpu, f"{prefix}: {board}")
        printk(cpu, f"{prefix}: {mac}")
    else:
        unit = "Gb/s" if cpu.params.log_format == "2.6.18" else "GT/s"
        printk(cpu, f"{prefix}: (PCI Express:{speed}{unit}:Width x{width}) {mac}")
        printk(cpu, f"{prefix}: {board}")


def _phy(cpu: Cpu, adapter: Adapter) -> str:
    """Numbers of enums: that of the PHY types grew over the years."""
    hw = adapter.hw
    if hw.sfp_type in (phy.SfpType.NOT_PRESENT, phy.SfpType.UNKNOWN):
        return f"MAC: {_MAC_82599}, PHY: 0"
    number = cpu.params.phy_sfp_passive + hw.phy_type.value
    return f"MAC: {_MAC_82599}, PHY: {number}, SFP+: {hw.sfp_type.value + hw.lan_id}"
