"""Life of an adapter on the boot CPU between probe and remove: open, down, reset (ixgbe_main.c).

The boot CPU talks to the hardware and owns the netdev; the other CPUs get a replica that is enough
to transmit, to take their queue's interrupt and to poll it. The order of the steps, register by
register, is that of the real driver's log. Left out: DCB, SR-IOV, XDP, PTP, IPsec's tables, whose
fuse is blown here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import pcimsi
from nodes.cpu.kernel.drivers.ixgbe import (
    common,
    configure,
    hw,
    itr,
    mac82599,
    regs,
    watchdog,
)
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.txrx import (
    ixgbe_poll,
    msix_clean_rings,
    netif_tx_wake_queue,
)
from nodes.cpu.kernel.hrtimer import usleep_range
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
from nodes.cpu.kernel.net.napi import napi_disable
from nodes.cpu.kernel.percpu import ALL_ONES, Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.tables import publish, replica

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


# ---------------------------------------------------------------- replicas


@replica("adapter")
def apply_adapter(cpu: Cpu, nic: int, value: tuple[int, bool, int, int, int] | None) -> None:
    """(ifindex, down, queue pairs, transmit and receive ring entries) of the adapter in slot
    ``nic``; None: there is none any more."""
    name = cpu.machine.nics[nic].name
    if value is None:
        cpu.net.adapters.pop(name, None)
        return
    ifindex, down, queues, tx_count, rx_count = value
    adapter = cpu.net.adapters.get(name)
    if adapter is None:
        netdev = cpu.net.devices[ifindex]
        adapter = Adapter(cpu, nic, netdev, ixgbe_poll)
        netdev.adapter = adapter
        cpu.net.adapters[name] = adapter
    if adapter.down and not down:
        netif_tx_wake_queue(cpu, adapter.netdev)  # its rings are empty
    adapter.down = down
    adapter.resize(queues, tx_count, rx_count)
    for napi in adapter.all_napi:
        napi.enabled = not down and napi.queue < queues


def publish_adapter(cpu: Cpu, adapter: Adapter, down: bool, *sizes: int) -> Context:
    """Tell every CPU. ``sizes``: queue pairs, transmit and receive entries, if they change."""
    ring = adapter.rings[0]
    sizes = sizes or (len(adapter.rings), ring.tx_count, ring.rx_count)
    value = (adapter.netdev.ifindex, down, *sizes)
    yield from publish(cpu, "adapter", adapter.nic, value)


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


# ---------------------------------------------------------------- open and close


def open_(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_open: rings, interrupts, link; returns 0 or a negative errno."""
    for ring in adapter.rings:
        ring.reset(cpu)
        cpu.ram.atomics.store(ring.lock_word, 0)
    for napi in adapter.napi:
        cpu.ram.atomics.store(napi.word, 0)
    yield from configure.configure(cpu, adapter)
    error: int = yield from _request_irqs(cpu, adapter)
    if error:
        return error
    yield from _up_complete(cpu, adapter)
    return hw.EIO * -1 if adapter.removed else 0


def _request_irqs(cpu: Cpu, adapter: Adapter) -> Context:
    """One vector for each queue pair, on the CPU of the same number, and one for the rest; returns
    0 or a negative errno."""
    entries: list[tuple[int, int]] = []
    lines: list[tuple[int, tuple[Any, ...]]] = []
    nic = adapter.nic
    last = len(adapter.rings)
    ports = len(cpu.machine.hotplug_slots)  # whose numbers come first
    first = FIRST_MSI_IRQ + ports + nic * (cpu.machine.queues + 1)
    for index in range(last + 1):
        irq = cpu.vectors.msi_irq(first + index)
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
    """ixgbe_up_complete: interrupts, light, and the search for the link."""
    control = yield from hw.known(cpu, adapter, regs.CTRL_EXT, regs.CTRL_EXT_NS_DIS)
    control |= regs.CTRL_EXT_DRV_LOAD
    adapter.write_reg(regs.CTRL_EXT, control)
    yield from configure.configure_interrupts(cpu, adapter)
    yield from mac82599.enable_tx_laser(cpu, adapter)
    yield from publish_adapter(cpu, adapter, False)
    yield from hw.read_reg(cpu, adapter, regs.EICR)
    yield from configure.irq_enable(cpu, adapter)
    watchdog.start_service(cpu, adapter)
    adapter.write_reg(regs.CTRL_EXT, control | regs.CTRL_EXT_PFRSTD)


def close(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_close: down, and the interrupts are given back."""
    yield from down(cpu, adapter)
    yield from _free_irqs(cpu, adapter)
    yield from release_hw_control(cpu, adapter)


def unregister_netdev(cpu: Cpu, adapter: Adapter) -> Context:
    """The port is closed, and its netdev and the replicas of the adapter are gone."""
    yield from cpu.net.rtnl.lock(cpu)
    irqs = tuple(adapter.irqs)
    yield from device.dev_close(cpu, adapter.netdev, lambda: close(cpu, adapter))
    for irq in irqs:
        forget_affinity(cpu, irq)
    yield from publish(cpu, "adapter", adapter.nic, None)
    yield from device.unregister_netdevice(cpu, adapter.netdev)
    cpu.net.rtnl.unlock(cpu)


def _free_irqs(cpu: Cpu, adapter: Adapter) -> Context:
    for irq in adapter.irqs:
        yield from publish(cpu, "irq", irq, None)
        release_irq(cpu, irq)
    adapter.irqs.clear()
    if not adapter.removed:
        yield from pcimsi.disable_msix(cpu, adapter.nic)


def release_hw_control(cpu: Cpu, adapter: Adapter) -> Context:
    """Let the firmware take the port again."""
    control = yield from hw.known(cpu, adapter, regs.CTRL_EXT, regs.CTRL_EXT_NS_DIS)
    adapter.write_reg(regs.CTRL_EXT, control & ~regs.CTRL_EXT_DRV_LOAD)


def down(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_down: nothing moves any more; what was not sent is lost by name."""
    if adapter.down:
        return
    yield from publish_adapter(cpu, adapter, True)
    watchdog.stop_timer(cpu, adapter)
    yield from _disable_rx(cpu, adapter)
    yield from device.carrier_off(cpu, adapter.netdev)
    yield from configure.irq_disable(cpu, adapter)
    for napi in adapter.napi:
        yield from napi_disable(cpu, napi)
    yield from _disable_tx(cpu, adapter)
    if not adapter.removed:
        yield from reset(cpu, adapter)
        yield from mac82599.disable_tx_laser(cpu, adapter)
    for ring in adapter.rings:
        ring.reset(cpu)


def _disable_rx(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_disable_rx: the unit, then each queue until it says that it is off."""
    yield from common.disable_rx(cpu, adapter)
    for ring in adapter.rings:
        register = regs.rx_queue(ring.queue) + 0x28
        control = yield from hw.known(cpu, adapter, register, regs.RXDCTL_VME)
        adapter.write_reg(register, control & ~regs.DCTL_ENABLE | regs.DCTL_SWFLSH)
    yield from _wait_off(cpu, adapter, [regs.rx_queue(r.queue) + 0x28 for r in adapter.rings])


def _disable_tx(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_disable_tx. The heads are read for the account of what was lost."""
    for ring in adapter.rings:
        adapter.write_reg(regs.tx_queue(ring.queue) + 0x28, regs.DCTL_SWFLSH)
    links = yield from hw.read_reg(cpu, adapter, regs.LINKS)
    if links & regs.LINKS_UP:
        yield from _wait_off(cpu, adapter, [regs.tx_queue(r.queue) + 0x28 for r in adapter.rings])
    for ring in adapter.rings:
        head = yield from hw.read_reg(cpu, adapter, regs.tx_queue(ring.queue) + 0x10)
        if head != ALL_ONES:  # of a card that is gone nobody knows; its own books tell
            adapter.count_unsent(cpu, ring, head)
    control = yield from hw.known(cpu, adapter, regs.DMATXCTL, 0x8100_0001)
    adapter.write_reg(regs.DMATXCTL, control & ~regs.DMATXCTL_TE)


def _wait_off(cpu: Cpu, adapter: Adapter, registers: list[int]) -> Context:
    for _ in range(configure.MAX_RX_DESC_POLL):
        on = 0
        for register in registers:
            on |= yield from hw.known(cpu, adapter, register, 0)
        if not on & regs.DCTL_ENABLE or adapter.removed:
            return
        yield from usleep_range(cpu, 1000, 2000)


def reset(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_reset: the hardware from the beginning, and our address in it again."""
    adapter.hw.addr = adapter.netdev.dev_addr
    error: int = yield from mac82599.reset_hw(cpu, adapter)
    if error and not adapter.removed:
        hw.e_err(cpu, adapter, f"Hardware Error: {error}")
    yield from common.start_hw(cpu, adapter)
    yield from hw.known(cpu, adapter, regs.LEDCTL, 0)
    yield from configure.sync_mac_table(cpu, adapter)


def reinit(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_reinit_locked: down and up again, the interrupts stay."""
    yield from down(cpu, adapter)
    if adapter.removed:
        return
    yield from up(cpu, adapter)


def up(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_up."""
    yield from configure.configure(cpu, adapter)
    yield from _up_complete(cpu, adapter)


def setup_tc(cpu: Cpu, adapter: Adapter, queues: int) -> Context:
    """ixgbe_setup_tc: a port that is up gives everything back and is opened again with this many
    queue pairs; returns 0 or a negative errno."""
    running = not adapter.down
    if running:
        yield from down(cpu, adapter)
        irqs = tuple(adapter.irqs)
        yield from _free_irqs(cpu, adapter)
        if queues != len(adapter.rings):
            for irq in irqs:
                forget_affinity(cpu, irq)
    for ring in adapter.all_rings:
        itr.alloc_q_vector(cpu, adapter, ring)
    yield from publish_adapter(cpu, adapter, True, queues, ring.tx_count, ring.rx_count)
    if not running:
        return 0
    return (yield from open_(cpu, adapter))


def change_mtu(cpu: Cpu, adapter: Adapter, mtu: int) -> Context:
    """ixgbe_change_mtu: a port that is up starts anew with the larger frames."""
    hw_text = f"changing MTU from {adapter.netdev.mtu} to {mtu}"
    adapter.netdev.mtu = mtu
    hw.e_info(cpu, adapter, hw_text)
    if not adapter.down:
        yield from reinit(cpu, adapter)
