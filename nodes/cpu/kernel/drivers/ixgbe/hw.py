"""Register access and the hardware-near steps of the driver (ixgbe_common.c, ixgbe_82599.c).

Every read may find that the device is gone: behaviour ``removed_device = "all-ones"`` (3.14 and
later) checks STATUS again and then forgets the mapping, older drivers believe the ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import BUFFER_BYTES, RING_BYTES, RX_TAIL, Adapter
from nodes.cpu.kernel.percpu import ALL_ONES, Context, MmioRead
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.timer import msleep
from nodes.machine import RING_ENTRIES

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

EIO, ENODEV = 5, 19
EEPROM_CHECKSUM, EEPROM_WORDS, EEPROM_ABSENT = 0xBABA, 0x40, 0xFFFF
POLLS_MAX = 10


def read_reg(cpu: Cpu, adapter: Adapter, register: int) -> Context:
    """ixgbe_read_reg: the value, or all ones once the adapter is gone."""
    if adapter.removed:
        return ALL_ONES
    value: int = yield MmioRead(adapter.nic, register)
    if value == ALL_ONES and cpu.params.removed_device == "all-ones":
        value = yield from _check_remove(cpu, adapter, register)
    return value


def _check_remove(cpu: Cpu, adapter: Adapter, register: int) -> Context:
    """ixgbe_check_remove: is it one register, or the whole device?"""
    for attempt in range(regs.IXGBE_FAILED_READ_RETRIES):
        status = yield MmioRead(adapter.nic, regs.STATUS)
        if status != ALL_ONES:
            value: int = yield MmioRead(adapter.nic, register)
            return value
        if attempt < regs.IXGBE_FAILED_READ_RETRIES - 1:
            yield from mdelay(cpu, 3)
    adapter.removed = True
    printk(cpu, f"{driver_prefix(cpu, adapter)}: Adapter removed", KERN_ERR)
    on_removal = cpu.net.ixgbe_removed
    if on_removal is not None:
        yield from on_removal(cpu, adapter.nic)
    return ALL_ONES


def driver_prefix(cpu: Cpu, adapter: Adapter) -> str:
    """What the kernel prints before a message of this driver's device."""
    return f"ixgbe {cpu.machine.nics[adapter.nic].pci_name}"


def netdev_prefix(cpu: Cpu, adapter: Adapter) -> str:
    if cpu.params.log_format == "2.6.18":
        return f"{driver_prefix(cpu, adapter)}: {adapter.netdev.name}"
    return f"{driver_prefix(cpu, adapter)} {adapter.netdev.name}"


def reset_hw(cpu: Cpu, adapter: Adapter) -> Context:
    """Mask interrupts, stop the bus master, reset, wait; returns 0 or a negative errno."""
    adapter.write_reg(regs.EIMC, ALL_ONES)
    adapter.write_reg(regs.CTRL, regs.CTRL_GIO_DIS)
    for _ in range(POLLS_MAX):
        status = yield from read_reg(cpu, adapter, regs.STATUS)
        if not status & regs.STATUS_GIO or adapter.removed:
            break
    adapter.write_reg(regs.CTRL, regs.CTRL_RST)
    yield from msleep(cpu, 1)
    for _ in range(POLLS_MAX):
        control = yield from read_reg(cpu, adapter, regs.CTRL)
        if not control & regs.CTRL_RST:
            break
    else:
        return -EIO
    yield from msleep(cpu, 50)
    for _ in range(POLLS_MAX):
        ready = yield from read_reg(cpu, adapter, regs.RDRXCTL)
        if ready & regs.RDRXCTL_DMAIDONE:
            return 0
        yield from msleep(cpu, 10)
    return -EIO


def read_eeprom(cpu: Cpu, adapter: Adapter, word: int) -> Context:
    """One EEPROM word through EERD; None when DONE never comes."""
    adapter.write_reg(regs.EERD, word << 2 | regs.EERD_START)
    for _ in range(POLLS_MAX):
        value = yield from read_reg(cpu, adapter, regs.EERD)
        if adapter.removed:
            return None
        if value & regs.EERD_DONE:
            return value >> 16
    return None


def validate_eeprom(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_calc_eeprom_checksum: words 0..3Fh and the sections that words 3..Eh point to sum to
    BABAh."""
    words: list[int] = []
    for word in range(EEPROM_WORDS):
        value = yield from read_eeprom(cpu, adapter, word)
        if value is None:
            return False
        words.append(value)
    total = sum(words)
    for pointer in words[0x03:0x0F]:
        if pointer in (0, EEPROM_ABSENT):
            continue
        length = yield from read_eeprom(cpu, adapter, pointer)
        if length in (None, 0, EEPROM_ABSENT):
            continue
        for word in range(pointer + 1, pointer + 1 + length):
            value = yield from read_eeprom(cpu, adapter, word)
            total += value or 0
    return total & 0xFFFF == EEPROM_CHECKSUM


def read_mac(cpu: Cpu, adapter: Adapter) -> Context:
    """Station address that the reset loaded into RAL/RAH 0."""
    low = yield from read_reg(cpu, adapter, regs.ral(0))
    high = yield from read_reg(cpu, adapter, regs.ral(0) + 4)
    return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")


def set_mac(adapter: Adapter, mac: bytes) -> None:
    """RAL/RAH 0: what the NIC accepts as its own."""
    adapter.write_reg(regs.ral(0), int.from_bytes(mac[:4], "little"))
    adapter.write_reg(regs.ral(0) + 4, int.from_bytes(mac[4:], "little") | regs.RAH_AV)


def configure_tx(cpu: Cpu, adapter: Adapter) -> Context:
    """Transmit rings: bases, lengths, thresholds, enable and wait for it."""
    write = adapter.write_reg
    control = yield from read_reg(cpu, adapter, regs.RTTDCS)
    write(regs.RTTDCS, control | regs.RTTDCS_ARBDIS)
    write(regs.MTQC, 0)
    write(regs.RTTDCS, control & ~regs.RTTDCS_ARBDIS)
    write(regs.DMATXCTL, regs.DMATXCTL_TE)
    for ring in adapter.rings:
        base = regs.tx_queue(ring.queue)
        write(base, ring.tx_desc & ALL_ONES)
        write(base + 0x04, ring.tx_desc >> 32)
        write(base + 0x08, RING_BYTES)
        write(base + 0x10, 0)
        write(base + 0x18, 0)
        write(base + 0x28, regs.TXDCTL_THRESHOLDS | regs.DCTL_ENABLE)
    for ring in adapter.rings:
        yield from _wait_enabled(cpu, adapter, regs.tx_queue(ring.queue) + 0x28, "Tx", ring.queue)


def configure_rx(cpu: Cpu, adapter: Adapter) -> Context:
    """Receive filters, RSS, rings; RXEN comes last."""
    write = adapter.write_reg
    control = yield from read_reg(cpu, adapter, regs.RXCTRL)
    write(regs.RXCTRL, control & ~regs.RXCTRL_RXEN)
    write(regs.RXCSUM, regs.RXCSUM_PCSD)
    _configure_rss(cpu, adapter)
    for ring in adapter.rings:
        base = regs.rx_queue(ring.queue)
        write(base + 0x28, 0)
        write(base, ring.rx_desc & ALL_ONES)
        write(base + 0x04, ring.rx_desc >> 32)
        write(base + 0x08, RING_BYTES)
        write(base + 0x10, 0)
        write(base + 0x18, 0)
        write(regs.srrctl(ring.queue), regs.SRRCTL_ONE_BUFFER)
        write(base + 0x28, regs.DCTL_ENABLE)
    for ring in adapter.rings:
        base = regs.rx_queue(ring.queue)
        yield from _wait_enabled(cpu, adapter, base + 0x28, "Rx", ring.queue)
        _fill_rx(cpu, adapter, ring.queue)
        write(base + 0x18, RING_ENTRIES - 1)
    set_rx_mode(adapter)
    write(regs.RXCTRL, regs.RXCTRL_RXEN)


def set_rx_mode(adapter: Adapter) -> None:
    """Broadcast always; everything while somebody asked for promiscuous mode."""
    promiscuous = regs.FCTRL_UPE | regs.FCTRL_MPE if adapter.netdev.promiscuity else 0
    adapter.write_reg(regs.FCTRL, regs.FCTRL_BAM | promiscuous)


def _fill_rx(cpu: Cpu, adapter: Adapter, queue: int) -> None:
    ring = adapter.rings[queue]
    words = cpu.ram.words64
    for entry in range(RING_ENTRIES):
        at = (ring.rx_desc >> 3) + entry * 2
        words[at] = ring.rx_buffers + entry * BUFFER_BYTES
        words[at + 1] = 0
    words[ring.state + RX_TAIL] = RING_ENTRIES - 1


def _configure_rss(cpu: Cpu, adapter: Adapter) -> None:
    """Key, indirection table (entry i is queue i mod n), and which headers are hashed."""
    key = cpu.net.rss_key
    for i in range(10):
        adapter.write_reg(regs.rssrk(i), int.from_bytes(key[4 * i : 4 * i + 4], "little"))
    queues = len(adapter.rings)
    for i in range(32):
        entries = bytes((4 * i + j) % queues for j in range(4))
        if (
            cpu.params.reta_order == "reversed"
        ):  # drivers of that age wrote each group of four reversed
            entries = entries[::-1]
        adapter.write_reg(regs.reta(i), int.from_bytes(entries, "little"))
    adapter.write_reg(regs.MRQC, regs.MRQC_RSS_IPV4_TCP)


def _wait_enabled(cpu: Cpu, adapter: Adapter, register: int, what: str, queue: int) -> Context:
    for _ in range(POLLS_MAX):
        value = yield from read_reg(cpu, adapter, register)
        if value & regs.DCTL_ENABLE:
            return
        yield from msleep(cpu, 1)
    printk(
        cpu,
        f"{netdev_prefix(cpu, adapter)}: {what.upper()}DCTL.ENABLE on {what} queue {queue} "
        "not set within the polling period",
        KERN_ERR,
    )


def configure_interrupts(adapter: Adapter) -> None:
    """GPIE, auto-mask, auto-clear, IVAR, EITR: queue pair n to vector n, the rest to the last."""
    write = adapter.write_reg
    queues = len(adapter.rings)
    write(regs.GPIE, regs.GPIE_MSIX)
    for index in (0, 1):
        write(regs.eiam_ex(index), ALL_ONES)
    write(regs.EIAC, regs.EIAC_ALL)
    for pair in range(0, queues, 2):
        value = 0
        for queue in (pair, pair + 1):
            if queue < queues:
                value |= (0x80 | queue) * 0x0101 << (16 * (queue & 1))
        write(regs.ivar(pair >> 1), value)
    write(regs.IVAR_MISC, (0x80 | queues) << 8)
    for queue in range(queues):
        write(regs.eitr(queue), regs.ITR_START | regs.EITR_CNT_WDIS)
    write(regs.eitr(queues), regs.EITR_OTHER | regs.EITR_CNT_WDIS)


def irq_enable(adapter: Adapter) -> None:
    adapter.write_reg(regs.EIMS, regs.EIMS_OTHER)
    for index in (0, 1):
        adapter.write_reg(regs.eims_ex(index), ALL_ONES)


def irq_disable(adapter: Adapter) -> None:
    adapter.write_reg(regs.EIMC, 0xFFFF_0000)
    for index in (0, 1):
        adapter.write_reg(regs.eimc_ex(index), ALL_ONES)
