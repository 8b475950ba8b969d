"""What ethtool asks of the driver (ixgbe_ethtool.c). All of it runs under RTNL on the boot CPU;
what changes something gives 0 or a negative errno.

Left out: -K (offloads are what they are), flow rules, pause parameters, wake-up, EEPROM and module
dumps, private flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import configure, hw, itr, main, phy, regs, stats
from nodes.cpu.kernel.drivers.ixgbe.adapter import (
    RING_ENTRIES_MIN,
    RING_MULTIPLE,
    RX_BYTES,
    RX_PACKETS,
    TX_BUSY,
    TX_BYTES,
    TX_PACKETS,
    TX_RESTART,
    Adapter,
)
from nodes.cpu.kernel.net.stats import COLUMNS, device_stats
from nodes.cpu.kernel.percpu import ALL_ONES, Context
from nodes.machine import RING_ENTRIES_MAX

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

MAX_FDIR_INDICES, NON_Q_VECTORS = 63, 1
MAX_RX_USECS = regs.EITR_INTERVAL >> 2

#: (name, where from): a column of the netdev, ``hw`` a register's sum, ``own`` a count of ours, "":
#: of what is not built.
_GLOBAL: tuple[tuple[str, str, str], ...] = (
    ("rx_packets", "net", ""), ("tx_packets", "net", ""),
    ("rx_bytes", "net", ""), ("tx_bytes", "net", ""),
    ("rx_pkts_nic", "hw", "gprc"), ("tx_pkts_nic", "hw", "gptc"),
    ("rx_bytes_nic", "hw", "gorc"), ("tx_bytes_nic", "hw", "gotc"),
    ("lsc_int", "own", ""), ("tx_busy", "own", ""), ("non_eop_descs", "", ""),
    ("rx_errors", "net", "rx_errs"), ("tx_errors", "net", "tx_errs"),
    ("rx_dropped", "net", "rx_drop"), ("tx_dropped", "net", "tx_drop"),
    ("multicast", "hw", "mprc"), ("broadcast", "hw", "bprc"),
    ("rx_no_buffer_count", "", ""), ("collisions", "", ""), ("rx_over_errors", "", ""),
    ("rx_crc_errors", "hw", "crcerrs"), ("rx_frame_errors", "", ""),
    ("hw_rsc_aggregated", "", ""), ("hw_rsc_flushed", "", ""),
    ("fdir_match", "hw", "fdirmatch"), ("fdir_miss", "hw", "fdirmiss"), ("fdir_overflow", "", ""),
    ("rx_fifo_errors", "", ""), ("rx_missed_errors", "hw", "mpc[0]"),
    ("tx_aborted_errors", "", ""), ("tx_carrier_errors", "", ""), ("tx_fifo_errors", "", ""),
    ("tx_heartbeat_errors", "", ""), ("tx_timeout_count", "own", ""),
    ("tx_restart_queue", "own", ""), ("rx_length_errors", "hw", "rlec"),
    ("rx_long_length_errors", "hw", "roc"), ("rx_short_length_errors", "hw", "ruc"),
    ("tx_flow_control_xon", "hw", "lxontxc"), ("rx_flow_control_xon", "hw", "lxonrxc"),
    ("tx_flow_control_xoff", "hw", "lxofftxc"), ("rx_flow_control_xoff", "hw", "lxoffrxc"),
    ("rx_csum_offload_errors", "", ""), ("alloc_rx_page", "", ""),
    ("alloc_rx_page_failed", "", ""), ("alloc_rx_buff_failed", "", ""),
    ("rx_no_dma_resources", "hw", "qprdc[0]"), ("os2bmc_rx_by_bmc", "", ""),
    ("os2bmc_tx_by_bmc", "", ""), ("os2bmc_tx_by_host", "", ""), ("os2bmc_rx_by_host", "", ""),
    ("tx_hwtstamp_timeouts", "", ""), ("tx_hwtstamp_skipped", "", ""),
    ("rx_hwtstamp_cleared", "", ""), ("tx_ipsec", "", ""), ("rx_ipsec", "", ""),
    ("fcoe_bad_fccrc", "hw", "fccrc"), ("rx_fcoe_dropped", "hw", "fcoerpdc"),
    ("rx_fcoe_packets", "hw", "fcoeprc"), ("rx_fcoe_dwords", "hw", "fcoedwrc"),
    ("fcoe_noddp", "", ""), ("fcoe_noddp_ext_buff", "", ""),
    ("tx_fcoe_packets", "hw", "fcoeptc"), ("tx_fcoe_dwords", "hw", "fcoedwtc"),
)  # fmt: skip
#: Names that came later than the driver of 2.6.18 (3.2.9-k2), and than that of 3.10 (3.13.10-k).
_SINCE_310 = ("fdir_overflow", "os2bmc", "fcoe_noddp")
_SINCE_61 = ("alloc_rx_page", "tx_hwtstamp", "rx_hwtstamp", "tx_ipsec", "rx_ipsec")
_LATE = {"3.2.9": _SINCE_310 + _SINCE_61, "3.13.10": _SINCE_61, "6.1": ()}


def get_ethtool_stats(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_get_ethtool_stats: (name, value) in the driver's order."""
    if not adapter.down:
        yield from stats.update_stats(cpu, adapter, all_of_them=True)
    net = dict(zip(COLUMNS, device_stats(cpu, adapter.netdev), strict=True))
    words, held = cpu.ram.words64, adapter.hw.stats
    own = {
        "lsc_int": adapter.service.lsc_int,
        "tx_busy": sum(words[r.state + TX_BUSY] for r in adapter.all_rings),
        "tx_timeout_count": adapter.tx_timeout_count,
        "tx_restart_queue": sum(words[r.state + TX_RESTART] for r in adapter.all_rings),
    }
    late = _LATE[cpu.params.ixgbe_stats]
    rows: list[tuple[str, int]] = []
    for name, source, key in _GLOBAL:
        if name.startswith(late) and name != "alloc_rx_page_failed":
            continue
        value = {"net": net, "own": own, "hw": held, "": {}}[source].get(key or name, 0)
        if key in ("gorc", "gotc"):
            value += held[f"{key}_high"] << 32
        rows.append((name, value))
    return rows + _queue_rows(cpu, adapter) + _priority_rows(held)


def _queue_rows(cpu: Cpu, adapter: Adapter) -> list[tuple[str, int]]:
    """Rows for all queues that the netdev was made for; the driver of 2.6.18 had those it used."""
    words, rings = cpu.ram.words64, adapter.all_rings
    count = len(rings) if cpu.params.ixgbe_stats == "3.2.9" else MAX_FDIR_INDICES
    rows: list[tuple[str, int]] = []
    for way, packets, octets in (("tx", TX_PACKETS, TX_BYTES), ("rx", RX_PACKETS, RX_BYTES)):
        for queue in range(count):
            there = queue < len(rings)
            for what, word in (("packets", packets), ("bytes", octets)):
                value = words[rings[queue].state + word] if there else 0
                rows.append((f"{way}_queue_{queue}_{what}", value))
    return rows


def _priority_rows(held: dict[str, int]) -> list[tuple[str, int]]:
    rows = []
    for way in ("tx", "rx"):
        for index in range(stats.PRIORITIES):
            for kind in ("pxon", "pxoff"):
                rows.append((f"{way}_pb_{index}_{kind}", held.get(f"{kind}{way}c[{index}]", 0)))
    return rows


# ---------------------------------------------------------------- rings, channels, moderation


def get_ringparam(adapter: Adapter) -> tuple[int, int, int]:
    """(largest, receive, transmit)."""
    ring = adapter.all_rings[0]
    return RING_ENTRIES_MAX, ring.rx_count, ring.tx_count


def _fit(count: int) -> int:
    count = min(max(count, RING_ENTRIES_MIN), RING_ENTRIES_MAX)
    return -(-count // RING_MULTIPLE) * RING_MULTIPLE


def set_ringparam(cpu: Cpu, adapter: Adapter, rx: int, tx: int) -> Context:
    """ixgbe_set_ringparam: a port that is up goes down and up, its interrupts stay."""
    rx, tx = _fit(rx), _fit(tx)
    _, old_rx, old_tx = get_ringparam(adapter)
    if (rx, tx) == (old_rx, old_tx):
        return 0
    running = not adapter.down
    if running:
        yield from main.down(cpu, adapter)
    yield from main.publish_adapter(cpu, adapter, True, len(adapter.rings), tx, rx)
    for ring in adapter.all_rings:
        ring.reset(cpu)
    if running:
        yield from main.up(cpu, adapter)
    return 0


def set_channels(cpu: Cpu, adapter: Adapter, combined: int) -> Context:
    """ixgbe_set_channels; more queue pairs than CPUs are not made."""
    if not 0 < combined <= MAX_FDIR_INDICES:
        return -hw.EINVAL
    return (yield from main.setup_tc(cpu, adapter, min(combined, cpu.machine.queues)))


def get_coalesce(adapter: Adapter) -> int:
    """rx-usecs; vectors serve both directions, so there is no other."""
    setting = adapter.rx_itr_setting
    return setting if setting <= 1 else setting >> 2


def set_coalesce(cpu: Cpu, adapter: Adapter, rx_usecs: int, tx_usecs: int) -> Context:
    """ixgbe_set_coalesce: EITR of each queue's vector; WTHRESH needs a reset when it changes."""
    if tx_usecs or not 0 <= rx_usecs <= MAX_RX_USECS:
        return -hw.EINVAL
    before = configure.wthresh_1(adapter)
    adapter.rx_itr_setting = rx_usecs << 2 if rx_usecs > 1 else rx_usecs
    for ring in adapter.all_rings:
        itr.set_setting(cpu, adapter, ring)
    if not adapter.down:
        for ring in adapter.rings:
            itr.write_eitr(cpu, adapter, ring)
        if configure.wthresh_1(adapter) != before:
            yield from main.reinit(cpu, adapter)
    return 0


# ---------------------------------------------------------------- what else can be looked at


def get_rxfh(cpu: Cpu, adapter: Adapter) -> Context:
    """(indirection table, key) as the registers have them."""
    table = bytearray()
    for index in range(32):
        value = yield from hw.read_reg(cpu, adapter, regs.reta(index))
        table += value.to_bytes(4, "little")
    key = bytearray()
    for index in range(10):
        value = yield from hw.read_reg(cpu, adapter, regs.rssrk(index))
        key += value.to_bytes(4, "little")
    return [entry & 0xF for entry in table], bytes(key)


def get_regs(cpu: Cpu, adapter: Adapter, addresses: list[int]) -> Context:
    """ixgbe_get_regs: each register; EICR is read as EICS, which clears nothing, and statistics are
    the driver's own sums (with ``fast_probe`` the service task leaves most of them for now)."""
    if adapter.fast and not adapter.down:
        yield from stats.update_stats(cpu, adapter, all_of_them=True)
    sums = {register: adapter.hw.stats[name] & ALL_ONES for name, register in stats.UPDATE}
    silent = frozenset(stats.CLEAR)
    values: list[int] = []
    for address in addresses:
        if address in sums:
            values.append(sums[address])
        elif address in silent:
            values.append(0)
        else:
            register = regs.EICS if address == regs.EICR else address
            values.append((yield from hw.read_reg(cpu, adapter, register)))
    return values


def port(adapter: Adapter) -> str:
    """PORT_DA or PORT_FIBRE."""
    direct = (phy.SfpType.DA_CU, phy.SfpType.DA_ACT_LMT)
    if adapter.hw.sfp_type in direct:
        return "Direct Attach Copper"
    if adapter.hw.sfp_type in (phy.SfpType.NOT_PRESENT, phy.SfpType.UNKNOWN):
        return "None"
    return "FIBRE"
