"""Probes of the ARP monitor: bond_arp_send_all. They leave through the slave, not the bond.

Behaviour ``arp_no_route``: what is said of a target without a route (*always*: 2.6.18; *validated*:
later kernels only when arp_validate needs the answers). The probe is sent all the same, from
0.0.0.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.arp import ARPOP_REQUEST, arp_send
from nodes.cpu.kernel.net.bonding.arpstate import last_tx_sent
from nodes.cpu.kernel.net.bonding.bond import Bonding, Slave, packed_address
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.eth import BROADCAST_MAC
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def bond_arp_send_all(cpu: Cpu, bond: Bonding, slave: Slave) -> Context:
    """Ask for every target."""
    for target in bond.settings.arp_ip_target:
        address = packed_address(target)
        source = bytes(4)
        info = cpu.net.fib.lookup_oif(address, 0)
        if info is None:
            noisy = cpu.params.arp_no_route == "always" or bond.settings.arp_validate != "none"
            if noisy:
                bond_log(cpu, bond, LOG.no_route, None, target=target)
        elif info.out_ifindex != bond.dev.ifindex:
            name = cpu.net.devices[info.out_ifindex].name
            bond_log(cpu, bond, LOG.no_path, None, target=target, via=name)
            continue
        else:
            source = _source(cpu, bond, info.route.prefsrc)
        me = (slave.dev.dev_addr, source)
        last_tx_sent(cpu, slave.dev)
        yield from arp_send(cpu, ARPOP_REQUEST, me, (bytes(6), address), BROADCAST_MAC, slave.dev)


def _source(cpu: Cpu, bond: Bonding, preferred: int) -> bytes:
    """bond_confirm_addr: the route's own address, or the bond's first."""
    if preferred:
        return preferred.to_bytes(4, "big")
    mine = (a for a, ifindex in cpu.net.addresses.items() if ifindex == bond.dev.ifindex)
    return next(mine, bytes(4))


def bond_has_ip(cpu: Cpu, bond: Bonding) -> bool:
    return bond.dev.ifindex in cpu.net.addresses.values()
