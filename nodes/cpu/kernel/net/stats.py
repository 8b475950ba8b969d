"""Counters of a device as /proc/net/dev shows them, summed over rings and CPUs.

A slave's packets and bytes are its rings' (in RAM, so any CPU can read them). A bond's are those of
its slaves: up to 3.10 their plain sum, in 6.1 what they gained since they were enslaved.
lo counts a packet once, as sent and as received, without its Ethernet header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe.adapter import RX_BYTES, RX_PACKETS, TX_BYTES, TX_PACKETS
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Order of the columns of /proc/net/dev.
COLUMNS = (
    "rx_bytes", "rx_packets", "rx_errs", "rx_drop", "rx_fifo", "rx_frame", "rx_compressed",
    "rx_multicast", "tx_bytes", "tx_packets", "tx_errs", "tx_drop", "tx_fifo", "tx_colls",
    "tx_carrier", "tx_compressed",
)  # fmt: skip

_LSTATS = CPU_SCHEMA.index("lstats")
_RX_DROPPED = CPU_SCHEMA.index("rx_dropped")
_RING_WORDS = (
    ("rx_bytes", RX_BYTES), ("rx_packets", RX_PACKETS),
    ("tx_bytes", TX_BYTES), ("tx_packets", TX_PACKETS),
)  # fmt: skip


def device_stats(cpu: Cpu, dev: NetDevice) -> list[int]:
    """One value for each of ``COLUMNS``."""
    stats = dict.fromkeys(COLUMNS, 0)
    if dev.adapter is not None:
        words = cpu.ram.words64
        for ring in dev.adapter.all_rings:
            for name, word in _RING_WORDS:
                stats[name] += words[ring.state + word]
    for name in cpu.machine.cpu_names:
        words = cpu.ram.page(name, CPU_SCHEMA).words
        stats["rx_drop"] += words[_RX_DROPPED + dev.slot]
        if dev is cpu.net.loopback_dev:
            for way in ("rx", "tx"):
                stats[f"{way}_packets"] += words[_LSTATS]
                stats[f"{way}_bytes"] += words[_LSTATS + 1]
    bond = cpu.net.bonds.get(dev.name)
    if bond is not None:
        of_slaves = [device_stats(cpu, slave.dev) for slave in bond.slaves]
        if cpu.params.bond_stats == "since-enslaved":
            of_slaves = [
                [
                    max(0, now - start)
                    for now, start in zip(row, slave.stats_at_enslave, strict=True)
                ]
                for row, slave in zip(of_slaves, bond.slaves, strict=True)
            ]
        for column, *values in zip(COLUMNS, bond.stats_base, *of_slaves, strict=True):
            stats[column] += sum(values)
    return [stats[column] for column in COLUMNS]
