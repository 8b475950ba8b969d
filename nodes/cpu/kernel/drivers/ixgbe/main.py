"""Life of an adapter on the boot CPU: probe, open, down, remove (ixgbe_main.c).

The boot CPU talks to the hardware and owns the netdev; the other CPUs get a replica that is enough
to transmit, to take their queue's interrupt and to poll it. Order of the steps is that of the real
driver; SFP, MDIO, flow director, DCB and SR-IOV come with the hardware issue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import pci, pcimsi
from nodes.cpu.kernel.drivers.ixgbe import hw, regs, watchdog
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.txrx import ixgbe_poll, msix_clean_rings
from nodes.cpu.kernel.irq.affinity import (
    forget_affinity,
    online_mask,
    release_irq,
    setup_affinity,
)
from nodes.cpu.kernel.irq.desc import FIRST_MSI_IRQ, Handler
from nodes.cpu.kernel.irq.flow import irq_alloc_desc, irq_free_desc, irq_set_chip_and_handler
from nodes.cpu.kernel.irq.manage import remove_action, request_irq
from nodes.cpu.kernel.irq.thread import stop_irq_threads
from nodes.cpu.kernel.irq.x86_chips import msix_chip
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.tables import publish, replica
from nodes.machine import QUEUE_DMA_BYTES

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

VENDOR_INTEL, DEVICE_82599 = 0x8086, 0x10FB


# ---------------------------------------------------------------- replicas


@replica("adapter")
def apply_adapter(cpu: Cpu, nic: int, value: tuple[int, bool] | None) -> None:
    """(ifindex, down) of the adapter in slot ``nic``; None: there is none any more."""
    name = cpu.machine.nics[nic].name
    if value is None:
        cpu.net.adapters.pop(name, None)
        return
    ifindex, down = value
    adapter = cpu.net.adapters.get(name)
    if adapter is None:
        netdev = cpu.net.devices[ifindex]
        adapter = Adapter(cpu, nic, netdev, ixgbe_poll)
        netdev.adapter = adapter
        cpu.net.adapters[name] = adapter
    adapter.down = down
    for napi in adapter.napi:
        napi.enabled = not down


@replica("irq")
def apply_irq(cpu: Cpu, irq: int, value: tuple[Any, ...] | None) -> None:
    """An MSI-X interrupt: (hwirq, vector, target CPU, mask of the CPUs that map the vector, action
    name, NIC, queue or -1)."""
    if value is None:
        desc = cpu.irq.desc.get(irq)
        if desc is not None:
            action = remove_action(cpu, desc, desc.actions[0].dev_id) if desc.actions else None
            if action is not None:
                stop_irq_threads(cpu, action)
            irq_free_desc(cpu, irq)
        return
    hwirq, vector, target, domain, name, nic, queue = value
    adapter = cpu.net.adapters[cpu.machine.nics[nic].name]
    index = queue if queue >= 0 else len(adapter.rings)
    desc = irq_alloc_desc(cpu, irq, hwirq, vector, target)
    if domain >> cpu.number & 1:
        cpu.irq.vector_irq[vector] = desc
    entry = pcimsi.MsixEntry(nic, adapter.name, index)
    irq_set_chip_and_handler(cpu, desc, msix_chip(cpu), "edge", entry)
    handler: Handler
    if queue >= 0:

        def ixgbe_msix_clean_rings(_irq: int, _dev: object) -> int:
            return msix_clean_rings(adapter, queue)

        handler = ixgbe_msix_clean_rings
    else:
        handler = watchdog.msix_other(cpu, adapter)
    error = request_irq(cpu, irq, handler, 0, name, adapter)
    if error:
        printk(cpu, f"{hw.driver_prefix(cpu, adapter)}: request_irq failed, Error: {error}")


# ---------------------------------------------------------------- probe and remove


def probe(cpu: Cpu, nic: int) -> Context:
    """ixgbe_probe: bring one adapter up to a registered netdev; returns 0 or a negative errno."""
    vendor = yield from pci.read_config(cpu, nic, pci.PCI_VENDOR_ID, 2)
    model = yield from pci.read_config(cpu, nic, pci.PCI_DEVICE_ID, 2)
    if (vendor, model) != (VENDOR_INTEL, DEVICE_82599):
        return -hw.ENODEV
    yield from pci.enable_device(cpu, nic)
    settings = cpu.machine.nics[nic]
    ifindex = device.new_ifindex(cpu)
    yield from device.register_netdevice(cpu, NetDevice(ifindex, settings.name, bytes(6), nic))
    yield from publish(cpu, "adapter", nic, (ifindex, True))
    adapter = cpu.net.adapters[settings.name]
    error = yield from _probe_hw(cpu, adapter)
    if error:
        yield from publish(cpu, "adapter", nic, None)
        yield from device.unregister_netdevice(cpu, adapter.netdev)
        return error
    for ring in adapter.rings:
        ring.clear_counters(cpu)
    _map_dma(cpu, adapter)
    adapter.write_reg(regs.CTRL_EXT, regs.CTRL_EXT_NS_DIS)
    adapter.write_reg(
        regs.ESDP, regs.ESDP_SDP3_DIR | regs.ESDP_SDP3
    )  # laser off until it is opened
    watchdog.init_service(cpu, adapter)
    _log_probe(cpu, adapter)
    return 0


def _probe_hw(cpu: Cpu, adapter: Adapter) -> Context:
    prefix = hw.driver_prefix(cpu, adapter)
    eec = yield from hw.read_reg(cpu, adapter, regs.EEC)
    if adapter.removed or not eec & regs.EEC_PRES:
        return -hw.EIO
    error = yield from hw.reset_hw(cpu, adapter)
    if error:
        printk(cpu, f"{prefix}: HW Init failed: {error}", KERN_ERR)
        return error
    valid = yield from hw.validate_eeprom(cpu, adapter)
    if not valid:
        printk(cpu, f"{prefix}: The EEPROM Checksum Is Not Valid", KERN_ERR)
        return -hw.EIO
    mac = yield from hw.read_mac(cpu, adapter)
    if mac[0] & 1 or mac == bytes(6):
        printk(cpu, f"{prefix}: invalid MAC address", KERN_ERR)
        return -hw.EIO
    adapter.netdev.dev_addr = mac
    yield from device.changed(cpu, adapter.netdev)
    return 0


def _log_probe(cpu: Cpu, adapter: Adapter) -> None:
    prefix = hw.driver_prefix(cpu, adapter)
    queues = len(adapter.rings)
    enabled = "Enabled" if queues > 1 else "Disabled"
    printk(
        cpu,
        f"{prefix}: Multiqueue {enabled}: Rx Queue count = {queues}, Tx Queue count = {queues}",
    )
    printk(cpu, f"{prefix}: {adapter.netdev.dev_addr.hex(':')}")
    printk(cpu, f"{prefix}: Intel(R) 10 Gigabit Network Connection")


def _map_dma(cpu: Cpu, adapter: Adapter) -> None:
    """dma_map: the NIC may reach its rings and buffers, nothing else."""
    iommu = cpu.ram.iommu(adapter.nic)
    for window in iommu.windows():
        iommu.unmap(window.address)
    for ring in adapter.rings:
        iommu.map(ring.tx_desc, QUEUE_DMA_BYTES)


def remove(cpu: Cpu, nic: int) -> Context:
    """ixgbe_remove: unregister; the hardware may be gone already."""
    adapter = cpu.net.adapters.get(cpu.machine.nics[nic].name)
    if adapter is None:
        return
    if cpu.lost_nics[nic]:
        adapter.removed = True
    yield from watchdog.stop_service(cpu, adapter)
    netdev = adapter.netdev
    yield from cpu.net.rtnl.lock(cpu)
    irqs = tuple(adapter.irqs)
    yield from device.dev_close(cpu, netdev, lambda: close(cpu, adapter))
    for irq in irqs:
        forget_affinity(cpu, irq)
    yield from publish(cpu, "adapter", nic, None)
    yield from device.unregister_netdevice(cpu, netdev)
    cpu.net.rtnl.unlock(cpu)
    iommu = cpu.ram.iommu(nic)
    for window in iommu.windows():
        iommu.unmap(window.address)


# ---------------------------------------------------------------- open and close


def open_(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_open: rings, interrupts, link; returns 0 or a negative errno."""
    for ring in adapter.rings:
        ring.reset(cpu)
        cpu.ram.atomics.store(ring.lock_word, 0)
    for napi in adapter.napi:
        cpu.ram.atomics.store(napi.word, 0)
    yield from _configure(cpu, adapter)
    error: int = yield from _request_irqs(cpu, adapter)
    if error:
        return error
    yield from _up_complete(cpu, adapter)
    return hw.EIO * -1 if adapter.removed else 0


def _configure(cpu: Cpu, adapter: Adapter) -> Context:
    hw.set_mac(adapter, adapter.netdev.dev_addr)
    yield from hw.configure_tx(cpu, adapter)
    yield from hw.configure_rx(cpu, adapter)


def _request_irqs(cpu: Cpu, adapter: Adapter) -> Context:
    """One vector for each queue pair, on the CPU of the same number, and one for the rest; returns
    0 or a negative errno."""
    entries: list[tuple[int, int]] = []
    lines: list[tuple[int, tuple[Any, ...]]] = []
    nic = adapter.nic
    last = len(adapter.rings)
    for index in range(last + 1):
        irq = cpu.vectors.msi_irq(FIRST_MSI_IRQ + nic * (last + 1) + index)
        hint = 1 << index if index < last else 0
        state = setup_affinity(cpu, irq, hint or None, hint=hint)
        try:
            cpu.vectors.activate(irq, state.affinity, online_mask(cpu))
        except OSError as error:
            for taken in adapter.irqs:
                release_irq(cpu, taken)
            adapter.irqs.clear()
            return -(error.errno or hw.EIO)
        cfg = cpu.vectors.cfg[irq]
        vector, target = cfg.vector, cfg.target(state.affinity, online_mask(cpu))
        state.target = target
        name = adapter.netdev.name
        name = f"{name}-TxRx-{index}" if index < last else name + cpu.params.other_vector_suffix
        hwirq = (cpu.machine.nics[nic].slot + 1) << 19 | index
        queue = index if index < last else -1
        lines.append((irq, (hwirq, vector, target, cfg.domain, name, nic, queue)))
        adapter.irqs.append(irq)
        entries.append((target, vector))
    yield from pcimsi.enable_msix(cpu, nic, adapter.name, entries)
    for irq, line in lines:
        yield from publish(cpu, "irq", irq, line)
    return 0


def _up_complete(cpu: Cpu, adapter: Adapter) -> Context:
    adapter.write_reg(regs.CTRL_EXT, regs.CTRL_EXT_NS_DIS | regs.CTRL_EXT_DRV_LOAD)
    hw.configure_interrupts(adapter)
    adapter.write_reg(regs.ESDP, regs.ESDP_SDP3_DIR)  # laser on
    yield from publish(cpu, "adapter", adapter.nic, (adapter.netdev.ifindex, False))
    yield from hw.read_reg(cpu, adapter, regs.EICR)
    hw.irq_enable(adapter)
    watchdog.start_service(cpu, adapter)
    control = regs.CTRL_EXT_NS_DIS | regs.CTRL_EXT_DRV_LOAD | regs.CTRL_EXT_PFRSTD
    adapter.write_reg(regs.CTRL_EXT, control)


def close(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_close: down, and the interrupts are given back."""
    yield from down(cpu, adapter)
    for irq in adapter.irqs:
        yield from publish(cpu, "irq", irq, None)
        release_irq(cpu, irq)
    adapter.irqs.clear()
    if not adapter.removed:
        yield from pcimsi.disable_msix(cpu, adapter.nic)
        adapter.write_reg(regs.CTRL_EXT, regs.CTRL_EXT_NS_DIS)


def down(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_down: nothing moves any more; what was not sent is lost by name."""
    if adapter.down:
        return
    yield from publish(cpu, "adapter", adapter.nic, (adapter.netdev.ifindex, True))
    watchdog.stop_timer(cpu, adapter)
    yield from device.carrier_off(cpu, adapter.netdev)
    hw.irq_disable(adapter)
    if not adapter.removed:
        adapter.write_reg(regs.RXCTRL, 0)
        for ring in adapter.rings:
            adapter.write_reg(regs.tx_queue(ring.queue) + 0x28, regs.DCTL_SWFLSH)
        for ring in adapter.rings:
            head = yield from hw.read_reg(cpu, adapter, regs.tx_queue(ring.queue) + 0x10)
            if not adapter.removed:
                adapter.count_unsent(cpu, ring, head)
        adapter.write_reg(regs.DMATXCTL, 0)
        yield from hw.reset_hw(cpu, adapter)
        adapter.write_reg(regs.ESDP, regs.ESDP_SDP3_DIR | regs.ESDP_SDP3)
    for ring in adapter.rings:
        ring.reset(cpu)


def reinit(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_reinit_locked: down and up again, the interrupts stay."""
    yield from down(cpu, adapter)
    if adapter.removed:
        return
    yield from _configure(cpu, adapter)
    yield from _up_complete(cpu, adapter)
