"""A function gets its driver and loses it: ixgbe_probe and ixgbe_remove (ixgbe_main.c).

The order of the steps, register by register, is that of the real driver's log. Left out: DCB,
SR-IOV, PTP, IPsec's tables, whose fuse is blown here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import pci
from nodes.cpu.kernel.drivers.ixgbe import (
    common,
    eeprom,
    hw,
    itr,
    mac82599,
    main,
    phy,
    probelog,
    regs,
    stats,
    watchdog,
)
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter, Hw
from nodes.cpu.kernel.drivers.ixgbe.semaphore import acquire_swfw_sync, release_swfw_sync
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.tables import publish
from nodes.machine import QUEUE_DMA_BYTES, RING_ENTRIES

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

VENDOR_INTEL, DEVICE_82599 = 0x8086, 0x10FB


def probe(cpu: Cpu, nic: int) -> Context:
    """ixgbe_probe: bring one adapter up to a registered netdev; returns 0 or a negative errno."""
    vendor = yield from pci.read_config(cpu, nic, pci.PCI_VENDOR_ID, 2)
    model = yield from pci.read_config(cpu, nic, pci.PCI_DEVICE_ID, 2)
    if (vendor, model) != (VENDOR_INTEL, DEVICE_82599):
        return -hw.ENODEV
    yield from pci.enable_device(cpu, nic)
    settings = cpu.machine.nics[nic]
    ifindex = device.new_ifindex(cpu)
    netdev = NetDevice(ifindex, settings.name, bytes(6), nic)
    yield from device.register_netdevice(cpu, netdev)
    queues = cpu.machine.queues
    value = (ifindex, True, queues, RING_ENTRIES, RING_ENTRIES)
    yield from publish(cpu, "adapter", nic, value)
    adapter = cpu.net.adapters[settings.name]
    adapter.hw = Hw(
        phy.SfpType.UNKNOWN, phy.PhyType.SFP_UNKNOWN, stats=dict.fromkeys(stats.NAMES, 0)
    )
    error = yield from _probe_hw(cpu, adapter)
    if error:
        yield from _undo(cpu, adapter)
        return error
    for ring in adapter.all_rings:
        ring.clear_counters(cpu)
        itr.alloc_q_vector(cpu, adapter, ring)
    _map_dma(cpu, adapter)
    watchdog.init_service(cpu, adapter)
    netdev.ndo_tx_timeout = lambda: watchdog.tx_timeout(cpu, adapter)
    yield from probelog.print_probe(cpu, adapter)
    yield from common.start_hw(cpu, adapter)
    yield from mac82599.disable_tx_laser(cpu, adapter)
    yield from _set_fw_drv_ver(cpu, adapter)
    yield from eeprom.read_word(cpu, adapter, eeprom.ETS_CFG)  # no thermal sensors
    if adapter.removed:
        yield from _undo(cpu, adapter)
        return -hw.EIO
    adapter.probed = True
    printk(cpu, f"{hw.driver_prefix(cpu, adapter)}: {probelog.PRODUCT}")
    return 0


def _undo(cpu: Cpu, adapter: Adapter) -> Context:
    """The probe failed: as if it had never begun."""
    _unmap_dma(cpu, adapter.nic)
    yield from publish(cpu, "adapter", adapter.nic, None)
    yield from device.unregister_netdevice(cpu, adapter.netdev)


def _probe_hw(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_sw_init, reset, checks; returns 0 or a negative errno."""
    prefix = hw.driver_prefix(cpu, adapter)
    eec = yield from hw.read_reg(cpu, adapter, regs.EEC)
    if adapter.removed or not eec & regs.EEC_PRES:
        return -hw.EIO
    if cpu.params.ixgbe_health_checks == "on":
        yield from hw.known(cpu, adapter, regs.FWSM, regs.FWSM_FW_VALID)
        for status in (regs.SECTXSTAT, regs.SECRXSTAT):  # fused off: no IPsec tables to clear
            yield from hw.known(cpu, adapter, status, regs.SEC_OFF)
        yield from hw.known(cpu, adapter, regs.rxpbsize(0), 0)
    yield from eeprom.init_eeprom_params(cpu, adapter)
    adapter.write_reg(regs.WUS, 0xFFFF_FFFF)
    error: int = yield from mac82599.reset_hw(cpu, adapter)
    if error == -hw.EOPNOTSUPP:
        for line in probelog.UNSUPPORTED:
            printk(cpu, f"{prefix}: {line}", KERN_ERR)
        return error
    if error:
        printk(cpu, f"{prefix}: HW Init failed: {error}", KERN_ERR)
        return error
    yield from eeprom.read_word(cpu, adapter, eeprom.DEVICE_CAPS)  # FCoE
    yield from hw.check_fw_error(cpu, adapter)
    if not adapter.fast and (yield from eeprom.validate_checksum(cpu, adapter)):
        printk(cpu, f"{prefix}: The EEPROM Checksum Is Not Valid", KERN_ERR)
        return -hw.EIO
    mac = adapter.hw.perm_addr
    if adapter.removed or mac[0] & 1 or mac == bytes(6):
        printk(cpu, f"{prefix}: invalid MAC address", KERN_ERR)
        return -hw.EIO
    adapter.netdev.dev_addr = adapter.hw.addr = mac
    yield from device.changed(cpu, adapter.netdev)
    yield from common.set_rar(cpu, adapter, 0, mac)
    return 0


def _set_fw_drv_ver(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_set_fw_drv_ver: tell the firmware who drives it, if it listens (HICR.EN)."""
    for _ in range(1 if adapter.fast else 4):
        if (yield from acquire_swfw_sync(cpu, adapter, regs.GSSR_SW_MNG_SM)):
            return
        state = yield from hw.known(cpu, adapter, regs.FWSTS, 0)
        adapter.write_reg(regs.FWSTS, state | regs.FWSTS_FWRI)
        yield from hw.known(cpu, adapter, regs.HICR, 0)
        yield from release_swfw_sync(cpu, adapter, regs.GSSR_SW_MNG_SM)


def _map_dma(cpu: Cpu, adapter: Adapter) -> None:
    """dma_map: the NIC may reach its rings and buffers, nothing else."""
    _unmap_dma(cpu, adapter.nic)
    iommu = cpu.ram.iommu(adapter.nic)
    for ring in adapter.all_rings:
        iommu.map(ring.tx_desc, QUEUE_DMA_BYTES)


def _unmap_dma(cpu: Cpu, nic: int) -> None:
    iommu = cpu.ram.iommu(nic)
    for window in iommu.windows():
        iommu.unmap(window.address)


def remove(cpu: Cpu, nic: int) -> Context:
    """ixgbe_remove: unregister; the hardware may be gone already, and so may the netdev, if its
    module was not supported."""
    adapter = cpu.net.adapters.get(cpu.machine.nics[nic].name)
    if adapter is not None:
        yield from watchdog.stop_service(cpu, adapter)
        yield from main.unregister_netdev(cpu, adapter)
        yield from main.release_hw_control(cpu, adapter)
    _unmap_dma(cpu, nic)
