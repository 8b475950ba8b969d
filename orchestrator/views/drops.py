"""The verb ``drops``: run a command, then say which counters of lost packets moved, and where.

Every place where a packet can end without arriving has a counter here, but not each has one on a
real box: the third column says where one would look there, or that there is nowhere to look. The
kernel's reasons have the names of ``enum skb_drop_reason`` (older kernels drop without a name).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from nodes.cpu.kernel.net.netdevice import LOOPBACK_SLOT
from nodes.cpu.page import DROP_REASONS
from nodes.lan.page import GATEWAY_PORT, GW_DROPS, IN_DROPS
from nodes.machine import CLASSES, LAN, MachineSettings
from nodes.nic.page import RX_DROPS, TX_DROPS
from orchestrator.captures.capture import SETTLE_NS
from orchestrator.errors import BottomhalfError
from orchestrator.machines.counts import Counts
from orchestrator.session import Session, Steps
from orchestrator.verbs.kernel import spoken

_REST_NS = 50_000_000
_NOWHERE = "nowhere: the packet is freed without a word"

#: Where a real box shows it, by the kernel's reason.
_KERNEL = {
    "NEIGH_FAILED": "ping says Destination Host Unreachable; ip neigh: FAILED",
    "NEIGH_QUEUEFULL": "/proc/net/stat/arp_cache: unresolved_discards",
    "BOND_NO_SLAVE": "ip -s link show bond0: TX dropped",
    "BOND_INACTIVE": "see rx_dropped and rx_nohandler; up to 2.6.38 nowhere",
    "QDISC_DROP": "tc -s qdisc: dropped; a link that is down: the noop qdisc counts nothing",
    "OTHERHOST": "ip -s -s link (6.1): otherhost",
    "UNHANDLED_PROTO": "/sys/class/net/DEV/statistics/rx_dropped",
    "IP_INHDR": "/proc/net/snmp: Ip InHdrErrors",
    "IP_CSUM": "/proc/net/snmp: Ip InHdrErrors",
    "PKT_TOO_SMALL": "/proc/net/snmp: Ip InTruncatedPkts",
    "IP_NOROUTE": "/proc/net/snmp: Ip InAddrErrors",
    "ICMP_CSUM": "/proc/net/snmp: Icmp InErrors, InCsumErrors",
    "NO_SOCKET": "nowhere: a reply that nobody waits for is thrown away in silence",
    "SOCKET_RCVBUFF": "/proc/net/raw: drops",
    "CPU_BACKLOG": "/proc/net/softnet_stat: second column",
    "NETFILTER_DROP": "iptables -nvL: the rule's pkts",
    "TX_RING_RESET": _NOWHERE,
    "RX_RING_RESET": _NOWHERE,
}
_NIC = {
    "rx_drop_missed": "ethtool -S: rx_missed_errors (MPC)",
    "rx_drop_no_descriptor": "ethtool -S: rx_no_dma_resources (QPRDC)",
    "rx_drop_length": "ethtool -S: rx_length_errors",
}


class Moved(NamedTuple):
    """One counter that moved."""

    place: str
    counter: str
    by: int
    shown: str

    @property
    def key(self) -> str:
        """``eth1_rx_nohandler``, ``netfilter_drop``: as an expectation names it."""
        place = "" if self.place in ("kernel", "switch", "gateway") else f"{self.place}_"
        return (place + self.counter).lower()


def drops(session: Session, argv: Sequence[str]) -> Steps:
    """Run the command; print what it lost."""
    if not argv:
        raise BottomhalfError("drops of what?", "bottomhalf drops ping -c 3 gateway")
    machine = session.machine
    before = Counts.of(machine)
    hearing = replace(session, out=lambda text: None) if session.json else session
    job = yield from hearing.program(spoken(argv))
    yield from session.sleep(_REST_NS + SETTLE_NS)
    after = Counts.of(machine)
    moved = list(compared(machine.settings, before, after))
    session.figures["drops"] = {row.key: row.by for row in moved}
    if session.json:
        rows = [row._asdict() for row in moved]
        session.out(json.dumps({"exit": job.exit_code, "moved": rows}) + "\n")
    else:
        _print(session, moved)
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", code=1)
    assert job.exit_code is not None
    return job.exit_code


def _print(session: Session, moved: Sequence[Moved]) -> None:
    if not moved:
        session.out("no counter of lost packets moved\n")
        return
    width = max(len(f"{row.place} {row.counter}") for row in moved)
    session.out("counters that moved\n")
    for row in moved:
        session.out(f"  {row.by:+4}  {f'{row.place} {row.counter}':<{width}}  {row.shown}\n")


def compared(settings: MachineSettings, before: Counts, after: Counts) -> Iterator[Moved]:
    """All counters of lost packets that differ, from the wire inwards."""

    def grew(node: str, field: str, first: int = 0, words: int = 1) -> int:
        places = range(first, first + words)
        return sum(after.get(node, field, n) - before.get(node, field, n) for n in places)

    classes = len(CLASSES)
    for port in (*range(len(settings.nics)), GATEWAY_PORT):
        where = "gateway" if port == GATEWAY_PORT else f"lan:{port + 1}"
        for field in IN_DROPS:
            by = grew(LAN, field, classes * port, classes)
            if by:
                yield Moved(where, field, by, "the switch's own counters, not this machine's")
    for field in GW_DROPS:
        by = grew(LAN, field, 0, classes)
        if by:
            yield Moved("gateway", field, by, "at the other host, nowhere here")
    for nic in settings.nic_names:
        for field in (*RX_DROPS, *TX_DROPS):
            by = grew(nic, field, 0, classes)
            if by:
                yield Moved(nic, field, by, _NIC.get(field, "in the card; its registers at most"))
    devices = ["bond0" if settings.bond else "-", *settings.nic_names]
    for field in ("rx_dropped", "rx_nohandler"):
        through_lo = [(LOOPBACK_SLOT, "lo")] if field == "rx_dropped" else []
        for number, device in [*enumerate(devices), *through_lo]:
            by = sum(grew(cpu, field, number) for cpu in settings.cpu_names)
            if by:
                yield Moved(device, field, by, f"/sys/class/net/{device}/statistics/{field}")
    size = classes * len(DROP_REASONS)
    for number, reason in enumerate(DROP_REASONS):
        by = sum(
            grew(cpu, "drops", size * device + classes * number, classes)
            for cpu in settings.cpu_names
            for device in range(len(devices))
        )
        if by:
            yield Moved("kernel", reason, by, _KERNEL.get(reason, _NOWHERE))


__all__ = ["Moved", "compared", "drops"]
