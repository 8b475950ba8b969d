"""Packet taps (AF_PACKET, ETH_P_ALL) and the three ways in which a bonded slave's frame meets them.

The rule is ``packet_tap``, and it is the answer to the riddle of tcpdump on a slave:

* ``skb_bond`` (2.6.18): ``skb->dev`` is rewritten to the bond before the taps run, so a tap on the
  slave sees only what is sent; frames of an inactive slave are freed before any tap;
* ``orig_dev`` (2.6.28 and RHEL 5.3 on): also rewritten before, but taps match the original device
  too; an inactive slave's frame reaches only who is bound exactly to that slave;
* ``rx_handler`` (2.6.39 on): taps run on the slave, then the bond's handler makes the frame the
  bond's and everything runs a second time; no rewriting.

A packet socket of one ethertype is a protocol handler beside IP and ARP: it sees what arrives after
the bond had its say, and matches the device that the frame is then of, or (not in 2.6.18) the one
it came by.

A tap that matches copies the frame into this CPU's packet ring; that is all it does. A socket of
one ethertype that a program reads (``net.af_packet``) has a queue instead: what matches it waits in
``packet_pending`` until the receive path gives it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.net.skbuff import PACKET_OTHERHOST, SkBuff
from nodes.cpu.kernel.tables import replica
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import OTHER

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

SESSIONS_MAX = 31
ETH_P_ALL = 0x0003
NO_SESSION = -2

_TRANSMIT = TRACEPOINTS["tap_transmit"].number
_RECEIVE = TRACEPOINTS["tap_receive"].number


class TapSession(NamedTuple):
    """One packet socket: its bit, the device it is bound to (0: any), its snap length, and the
    ethertype it wants. One that a program reads has ``NO_SESSION``, a number and its CPU."""

    session: int
    ifindex: int
    snaplen: int
    protocol: int = ETH_P_ALL
    number: int = 0
    owner: int = 0


@replica("tap")
def apply_tap(cpu: Cpu, session: int, value: tuple[int, ...] | None) -> None:
    """A packet socket was opened or (None) closed."""
    net = cpu.net
    taps = [tap for tap in net.taps if tap.session != session]
    ptypes = [tap for tap in net.ptypes if tap.session != session]
    if value is not None:
        tap = TapSession(session, *value)
        (taps if tap.protocol == ETH_P_ALL else ptypes).append(tap)
    net.taps, net.ptypes = taps, ptypes


def dev_queue_xmit_nit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> None:
    """What leaves through ``dev`` is shown to taps on it and to unbound ones, but not to the socket
    that sent it (skb_loop_sk)."""
    _copy(cpu, skb, cpu.net.taps, (0, dev.ifindex), dev.ifindex, outgoing=True)


def deliver_taps(cpu: Cpu, skb: SkBuff, matching: tuple[int, ...]) -> None:
    """What arrived is shown to taps bound to one of ``matching`` (0 is the wildcard)."""
    _copy(cpu, skb, cpu.net.taps, matching, skb.dev.ifindex, outgoing=False)


def deliver_types(cpu: Cpu, skb: SkBuff, *, exact: bool) -> None:
    """ptype_base: sockets of this frame's ethertype; ``exact``: only those of a device."""
    dev, orig_dev = skb.dev.ifindex, skb.orig_dev.ifindex
    matching = (dev,) if cpu.params.packet_tap == "skb_bond" else (dev, orig_dev)
    if not exact:
        matching = (0, *matching)
    found = [tap for tap in cpu.net.ptypes if tap.protocol == skb.protocol]
    _copy(cpu, skb, found, matching, dev, outgoing=False)
    for tap in found:
        if tap.number and tap.ifindex in matching:
            cpu.net.packet_pending.append((tap, _clone(cpu, skb)))


def _clone(cpu: Cpu, skb: SkBuff) -> SkBuff:
    """skb_clone for a packet socket; what reads it is no end of the packet in the ledger."""
    clone = SkBuff(skb.frame, skb.dev, OTHER, 0)
    clone.pkt_type, clone.protocol, clone.tstamp_ns = skb.pkt_type, skb.protocol, cpu.now()
    return clone


def _copy(
    cpu: Cpu, skb: SkBuff, taps: list[TapSession], matching: tuple[int, ...], ifindex: int, *,
    outgoing: bool,
) -> None:  # fmt: skip
    bits = snaplen = 0
    for tap in taps:
        if tap.ifindex in matching and tap.session != skb.sk and not tap.number:
            bits |= 1 << tap.session
            snaplen = max(snaplen, tap.snaplen)
    if bits:
        stamp = cpu.now()
        other_host = not outgoing and skb.pkt_type == PACKET_OTHERHOST
        cpu.tap.append(stamp, ifindex, outgoing, bits, skb.frame, snaplen, other_host)
        cpu.trace(_TRANSMIT if outgoing else _RECEIVE, skb.key, ifindex)
