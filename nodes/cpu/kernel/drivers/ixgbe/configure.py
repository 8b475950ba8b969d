"""Everything that is written before a port is up (ixgbe_main.c: ixgbe_configure and below).

The order is that of the real driver's log: packet buffers, filters, flow director, transmit rings,
receive rings, receive unit. Left out: DCB, SR-IOV, RSC, XDP, time stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import common, itr, regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import (
    BUFFER_BYTES,
    ETH_FRAMING,
    RX_TAIL,
    Adapter,
    Ring,
)
from nodes.cpu.kernel.drivers.ixgbe.hw import e_err, flush, known, read_reg
from nodes.cpu.kernel.hrtimer import usleep_range
from nodes.cpu.kernel.percpu import ALL_ONES, Context
from nodes.cpu.kernel.timer import msleep

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

RXPB_KB, TXPB_KB = 512, 160
MAX_RX_DESC_POLL = MAX_TX_DESC_POLL = 10
SEC_RX_POLLS, FDIR_INIT_DONE_POLLS = 40, 10
MAX_STD_FRAME = 1518
#: EITR's interval as the driver keeps it (us << 2): below this, more than 100,000 interrupts a
#: second, WTHRESH is 1, so that each finds the completions until then.
ITR_100K = 40


def configure(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_configure."""
    _set_rxpba(adapter)
    yield from known(cpu, adapter, regs.rxpbsize(0), RXPB_KB << 10)
    yield from set_rx_mode(cpu, adapter)
    yield from known(cpu, adapter, regs.vfta(0), 0)  # ixgbe_restore_vlan: id 0 is always wanted
    yield from known(cpu, adapter, regs.PFVTCTL, 0)
    adapter.write_reg(regs.vfta(0), 1)
    yield from disable_rx_buff(cpu, adapter)
    if len(adapter.rings) > 1:
        yield from _init_fdir_signature(cpu, adapter)
    yield from enable_rx_buff(cpu, adapter)
    adapter.write_reg(regs.DCA_CTRL, 1)  # no DCA
    for ring in adapter.rings:
        adapter.write_reg(regs.tx_queue(ring.queue) + 0x0C, 0x2220)
        adapter.write_reg(regs.dca_rxctrl(ring.queue), 0x02A0)
    adapter.write_reg(regs.etqf(2), 0x8800_8906)  # FCoE frames have their own filter
    adapter.write_reg(regs.etqs(2), 0)
    yield from configure_tx(cpu, adapter)
    yield from configure_rx(cpu, adapter)


def _set_rxpba(adapter: Adapter) -> None:
    """One traffic class has both packet buffers."""
    for index in range(8):
        adapter.write_reg(regs.rxpbsize(index), 0 if index else RXPB_KB << 10)
        adapter.write_reg(regs.txpbsize(index), 0 if index else TXPB_KB << 10)
        adapter.write_reg(regs.txpbthresh(index), 0 if index else TXPB_KB - 10)


def disable_rx_buff(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_disable_rx_buff_generic: the way into the packet buffer is closed and empty."""
    control = yield from known(cpu, adapter, regs.SECRXCTRL, 0)
    adapter.write_reg(regs.SECRXCTRL, control | regs.SECRX_RX_DIS)
    for _ in range(SEC_RX_POLLS):
        status = yield from known(cpu, adapter, regs.SECRXSTAT, regs.SECRX_RDY)
        if status & regs.SECRX_RDY:
            return
        yield from usleep_range(cpu, 1000, 2000)


def enable_rx_buff(cpu: Cpu, adapter: Adapter) -> Context:
    control = yield from known(cpu, adapter, regs.SECRXCTRL, regs.SECRX_RX_DIS)
    adapter.write_reg(regs.SECRXCTRL, control & ~regs.SECRX_RX_DIS)
    yield from flush(cpu, adapter)


def _init_fdir_signature(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_init_fdir_signature_82599: the table is there; nothing is entered in it."""
    adapter.write_reg(regs.FDIRHKEY, regs.FDIR_BUCKET_HASH_KEY)
    adapter.write_reg(regs.FDIRSKEY, regs.FDIR_SIGNATURE_HASH_KEY)
    adapter.write_reg(regs.FDIRCTRL, regs.FDIRCTRL_SIGNATURE)
    yield from flush(cpu, adapter)
    for _ in range(FDIR_INIT_DONE_POLLS):
        value = yield from known(cpu, adapter, regs.FDIRCTRL, regs.FDIRCTRL_INIT_DONE)
        if value & regs.FDIRCTRL_INIT_DONE:
            return
        yield from usleep_range(cpu, 1000, 2000)


# ---------------------------------------------------------------- filters


def set_rx_mode(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_set_rx_mode: modes, multicast table, addresses, VLAN filter and stripping."""
    yield from known(cpu, adapter, regs.FCTRL, 0)
    update_mc_addr_list(adapter)
    yield from sync_mac_table(cpu, adapter)
    pool = yield from known(cpu, adapter, regs.vmolr(0), 0)
    adapter.write_reg(regs.vmolr(0), pool | 0x0900_0000)
    write_fctrl(adapter)
    for ring in adapter.rings:  # ixgbe_vlan_strip_enable
        register = regs.rx_queue(ring.queue) + 0x28
        control = yield from known(cpu, adapter, register, 0)
        adapter.write_reg(register, control | regs.RXDCTL_VME)
    control = yield from known(cpu, adapter, regs.VLNCTRL, 0x8100)
    promiscuous = adapter.netdev.promiscuity
    vfe = 0 if promiscuous else regs.VLNCTRL_VFE
    adapter.write_reg(regs.VLNCTRL, control & ~regs.VLNCTRL_VFE | vfe)


def update_mc_addr_list(adapter: Adapter) -> None:
    """ixgbe_update_mc_addr_list_generic: a bit of the table for each address (filter type 0: its
    upper 12 bits), and the table in use if there is any."""
    table = [0] * 128
    for address in adapter.netdev.mc_list:
        vector = int.from_bytes(address[4:6], "little") >> 4
        table[vector >> 5] |= 1 << (vector & 31)
    for index, bits in enumerate(table):
        adapter.write_reg(regs.mta(index), bits)
    if adapter.netdev.mc_list:
        adapter.write_reg(regs.MCSTCTRL, regs.MCSTCTRL_MFE)


def write_fctrl(adapter: Adapter) -> None:
    """Broadcast always, pause frames never; everything while somebody asked for promiscuous mode.
    Only this changes when a capture begins: what else ixgbe_set_rx_mode writes stays the same."""
    promiscuous = regs.FCTRL_UPE | regs.FCTRL_MPE if adapter.netdev.promiscuity else 0
    adapter.write_reg(regs.FCTRL, regs.FCTRL_BAM | regs.FCTRL_DPF | regs.FCTRL_PMCF | promiscuous)


def sync_mac_table(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_sync_mac_table: our address first, all other entries empty."""
    yield from common.set_rar(cpu, adapter, 0, adapter.netdev.dev_addr)
    for index in range(1, regs.RAR_ENTRIES):
        yield from common.clear_rar(cpu, adapter, index)


# ---------------------------------------------------------------- transmit


def configure_tx(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_configure_tx: the arbiter stands still while MTQC changes, DMATXCTL.TE comes before the
    queues."""
    control = yield from known(cpu, adapter, regs.RTTDCS, 0x00C0_0000)
    adapter.write_reg(regs.RTTDCS, control | regs.RTTDCS_ARBDIS)
    adapter.write_reg(regs.MTQC, 0)
    adapter.write_reg(regs.RTTDCS, control & ~regs.RTTDCS_ARBDIS)
    control = yield from known(cpu, adapter, regs.DMATXCTL, 0x8100_0000)
    adapter.write_reg(regs.DMATXCTL, control | regs.DMATXCTL_TE)
    for ring in adapter.rings:
        yield from configure_tx_ring(cpu, adapter, ring)


def wthresh_1(adapter: Adapter) -> bool:
    """Do interrupts come so often that each completion must be seen by itself?"""
    return adapter.rx_itr_setting != 1 and adapter.rx_itr_setting < ITR_100K


def configure_tx_ring(cpu: Cpu, adapter: Adapter, ring: Ring) -> Context:
    """ixgbe_configure_tx_ring."""
    write, base = adapter.write_reg, regs.tx_queue(ring.queue)
    write(base + 0x28, 0)
    yield from flush(cpu, adapter)
    write(base, ring.tx_desc & ALL_ONES)
    write(base + 0x04, ring.tx_desc >> 32)
    write(base + 0x08, ring.tx_count * 16)
    write(base + 0x10, 0)
    write(base + 0x18, 0)
    threshold = regs.TXDCTL_WTHRESH_1 if wthresh_1(adapter) else regs.TXDCTL_WTHRESH_8
    enabled = regs.TXDCTL_THRESHOLDS | threshold | regs.DCTL_ENABLE
    write(base + 0x28, enabled)
    for _ in range(MAX_TX_DESC_POLL):
        value = yield from read_reg(cpu, adapter, base + 0x28)
        if value & regs.DCTL_ENABLE:
            return
        yield from usleep_range(cpu, 1000, 2000)
    e_err(cpu, adapter, f"Could not enable Tx Queue {ring.queue}")


# ---------------------------------------------------------------- receive


def configure_rx(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_configure_rx: units, RSS, frame size, rings; RXEN comes last."""
    yield from common.disable_rx(cpu, adapter)
    adapter.write_reg(regs.psrtype(0), regs.PSRTYPE_ALL | _rqpl(len(adapter.rings)) << 29)
    yield from _setup_rdrxctl(cpu, adapter)
    value = yield from known(cpu, adapter, regs.RFCTL, 0)
    adapter.write_reg(regs.RFCTL, value | regs.RFCTL_RSC_NFS_DIS)
    value = yield from known(cpu, adapter, regs.RXCSUM, 0)
    adapter.write_reg(regs.RXCSUM, value | regs.RXCSUM_PCSD)
    _configure_rss(cpu, adapter)
    yield from _set_rx_buffer_len(cpu, adapter)
    for ring in adapter.rings:
        yield from configure_rx_ring(cpu, adapter, ring)
    yield from read_reg(cpu, adapter, regs.RXCTRL)
    yield from disable_rx_buff(cpu, adapter)  # ixgbe_enable_rx_dma_82599
    control = yield from known(cpu, adapter, regs.RXCTRL, 0)
    adapter.write_reg(regs.RXCTRL, control | regs.RXCTRL_RXEN)
    yield from enable_rx_buff(cpu, adapter)


def _rqpl(queues: int) -> int:
    return 2 if queues > 3 else 1 if queues > 1 else 0


def _setup_rdrxctl(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_setup_rdrxctl: RSC is off, its acknowledgements too."""
    value = yield from known(cpu, adapter, regs.RDRXCTL, 0x0010_0008)
    buffers = yield from known(cpu, adapter, regs.RSCDBU, 0)
    adapter.write_reg(regs.RSCDBU, buffers | regs.RSCDBU_RSCACKDIS)
    value = value & ~regs.RDRXCTL_RSCFRSTSIZE | regs.RDRXCTL_RSCACKC | regs.RDRXCTL_FCOE_WRFIX
    adapter.write_reg(regs.RDRXCTL, value | regs.RDRXCTL_CRCSTRIP)


def _configure_rss(cpu: Cpu, adapter: Adapter) -> None:
    """ixgbe_setup_mrqc: key, indirection table, and which headers are hashed."""
    key = cpu.net.rss_key
    for i in range(10):
        adapter.write_reg(regs.rssrk(i), int.from_bytes(key[4 * i : 4 * i + 4], "little"))
    for i, value in enumerate(reta_registers(cpu, len(adapter.rings))):
        adapter.write_reg(regs.reta(i), value)
    adapter.write_reg(regs.MRQC, regs.MRQC_RSS_IPV4_TCP)


def reta_registers(cpu: Cpu, queues: int) -> list[int]:
    """Entry i is queue i mod n; drivers of 2010 wrote each group of four reversed."""
    step = -1 if cpu.params.reta_order == "reversed" else 1
    groups = [bytes((4 * i + j) % queues for j in range(4)) for i in range(32)]
    return [int.from_bytes(group[::step], "little") for group in groups]


def _set_rx_buffer_len(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_set_rx_buffer_len: the largest frame, with its FCS."""
    wanted = max(adapter.netdev.mtu + ETH_FRAMING, MAX_STD_FRAME)
    value = yield from known(cpu, adapter, regs.MAXFRS, MAX_STD_FRAME << 16)
    if value >> 16 != wanted:
        adapter.write_reg(regs.MAXFRS, value & 0xFFFF | wanted << 16)
    value = yield from known(cpu, adapter, regs.HLREG0, 0x0801_0403)
    adapter.write_reg(regs.HLREG0, value | regs.HLREG0_JUMBOEN)


def configure_rx_ring(cpu: Cpu, adapter: Adapter, ring: Ring) -> Context:
    """ixgbe_configure_rx_ring: off, base, head and tail 0, buffers, on, and only then the tail."""
    write, base = adapter.write_reg, regs.rx_queue(ring.queue)
    control = yield from known(cpu, adapter, base + 0x28, regs.RXDCTL_VME)
    write(base + 0x28, control & ~regs.DCTL_ENABLE)
    yield from flush(cpu, adapter)
    write(base, ring.rx_desc & ALL_ONES)
    write(base + 0x04, ring.rx_desc >> 32)
    write(base + 0x08, ring.rx_count * 16)
    yield from flush(cpu, adapter)
    write(base + 0x10, 0)
    write(base + 0x18, 0)
    write(regs.srrctl(ring.queue), regs.SRRCTL_ONE_BUFFER)
    write(base + 0x28, control | regs.DCTL_ENABLE)
    for _ in range(MAX_RX_DESC_POLL):
        value = yield from read_reg(cpu, adapter, base + 0x28)
        if value & regs.DCTL_ENABLE:
            break
        yield from msleep(cpu, 1)
    else:
        text = f"RXDCTL.ENABLE on Rx queue {ring.queue} not set within the polling period"
        e_err(cpu, adapter, text)
    _alloc_rx_buffers(cpu, ring)
    write(base + 0x18, ring.rx_count - 1)


def _alloc_rx_buffers(cpu: Cpu, ring: Ring) -> None:
    words = cpu.ram.words64
    for entry in range(ring.rx_count):
        at = (ring.rx_desc >> 3) + entry * 2
        words[at] = ring.rx_buffers + entry * BUFFER_BYTES
        words[at + 1] = 0
    words[ring.state + RX_TAIL] = ring.rx_count - 1


# ---------------------------------------------------------------- interrupts


def configure_interrupts(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_setup_gpie and ixgbe_configure_msix: GPIE, auto-mask, queue pair n to vector n, all
    else to the last."""
    write = adapter.write_reg
    for index in (0, 1):
        write(regs.eiam_ex(index), ALL_ONES)
    write(regs.GPIE, regs.GPIE_MSIX)
    ivars: dict[int, int] = {}
    for ring in adapter.rings:
        register = regs.ivar(ring.queue >> 1)
        for direction in (0, 1):
            shift = 16 * (ring.queue & 1) + 8 * direction
            known_value = ivars.get(register, 0)
            value = yield from known(cpu, adapter, register, known_value)
            ivars[register] = value & ~(0xFF << shift) | (0x80 | ring.queue) << shift
            write(register, ivars[register])
        itr.configure_vector(cpu, adapter, ring)
    value = yield from known(cpu, adapter, regs.IVAR_MISC, 0)
    last = len(adapter.rings)
    write(regs.IVAR_MISC, value & ~0xFF00 | (0x80 | last) << 8)
    write(regs.eitr(last), regs.EITR_OTHER)
    write(regs.EIAC, regs.EIAC_ALL)


def irq_mask(adapter: Adapter) -> int:
    """Other causes that are wanted; the flow director's with several queues only."""
    return regs.EIMS_OTHER | (regs.EICR_FLOW_DIR if len(adapter.rings) > 1 else 0)


def irq_enable(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_irq_enable."""
    adapter.write_reg(regs.EIMS, irq_mask(adapter))
    for index in (0, 1):
        adapter.write_reg(regs.eims_ex(index), ALL_ONES)
    yield from flush(cpu, adapter)


def irq_disable(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_irq_disable."""
    adapter.write_reg(regs.EIMC, 0xFFFF_0000)
    for index in (0, 1):
        adapter.write_reg(regs.eimc_ex(index), ALL_ONES)
    yield from flush(cpu, adapter)
