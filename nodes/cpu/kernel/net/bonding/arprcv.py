"""What the ARP monitor takes from a slave's frames: bond_rcv_validate, bond_arp_rcv.

Runs on the CPU that received the frame, for frames of inactive slaves too. Without arp_validate
every frame counts (with a filter mode every ARP frame); with it, ARP that speaks of a target and of
us: on the active slave from the target to us, on a backup our own request as the network brings it,
and that only once the active slave has heard something since it became active. In 6.1
(``arp_validate_reply``) an answer to the slave that is being tried counts on every slave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.jiffies import time_after
from nodes.cpu.kernel.net.bonding import arpstate
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.protocols import ARP_ETHERNET_IPV4, ETH_P_ARP
from nodes.cpu.kernel.net.skbuff import PACKET_OTHERHOST, SkBuff

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.bonding.bond import BondPort
    from nodes.cpu.kernel.percpu import Cpu

_ARPOP_REPLY = 2


def bond_rcv_validate(cpu: Cpu, port: BondPort, skb: SkBuff, slave: NetDevice) -> None:
    validate = port.settings.arp_validate
    is_arp = skb.protocol == ETH_P_ARP
    if not arpstate.do_arp_validate(validate, backup=slave in port.backups):
        if is_arp or not validate.startswith("filter"):
            port.note_rx(cpu, slave)
    elif is_arp:
        _bond_arp_rcv(cpu, port, skb, slave)


def _bond_arp_rcv(cpu: Cpu, port: BondPort, skb: SkBuff, slave: NetDevice) -> None:
    frame = skb.frame
    if skb.pkt_type == PACKET_OTHERHOST or len(frame) < 42 or frame[14:20] != ARP_ETHERNET_IPV4:
        return
    sip, tip = frame[28:32], frame[38:42]
    active = port.active
    if slave not in port.backups:
        _validate(cpu, port, slave, sip, tip)
    elif active is not None and time_after(
        arpstate.last_rx(cpu, active), arpstate.last_link_up(cpu, active)
    ):
        _validate(cpu, port, slave, tip, sip)
    elif cpu.params.arp_validate_reply == "any-slave" and port.is_arp_slave is not None:
        sent = arpstate.last_tx(cpu, port.is_arp_slave)
        recent = arpstate.in_interval(cpu, port.settings, sent, 1, half=True)
        if (frame[20] << 8 | frame[21]) == _ARPOP_REPLY and recent:
            _validate(cpu, port, slave, sip, tip)


def _validate(cpu: Cpu, port: BondPort, slave: NetDevice, sip: bytes, tip: bytes) -> None:
    """bond_validate_arp."""
    if not any(sip) or cpu.net.addresses.get(tip) != port.dev.ifindex:
        return
    if sip in port.targets:
        port.note_rx(cpu, slave)
        arpstate.note_target_rx(cpu, slave, port.targets.index(sip))
