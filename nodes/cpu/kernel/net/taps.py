"""Packet taps (AF_PACKET, ETH_P_ALL) and the three ways in which a bonded slave's frame meets them.

The rule is ``packet_tap``, and it is the answer to the riddle of tcpdump on a slave:

* ``skb_bond`` (2.6.18): ``skb->dev`` is rewritten to the bond before the taps run, so a tap on the
  slave sees only what is sent; frames of an inactive slave are freed before any tap;
* ``orig_dev`` (2.6.28 and RHEL 5.3 on): also rewritten before, but taps match the original device
  too; an inactive slave's frame reaches only who is bound exactly to that slave;
* ``rx_handler`` (2.6.39 on): taps run on the slave, then the bond's handler makes the frame the
  bond's and everything runs a second time; no rewriting.

A tap that matches copies the frame into this CPU's packet ring; that is all it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.net.skbuff import PACKET_OTHERHOST, SkBuff
from nodes.cpu.kernel.tables import replica
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

SESSIONS_MAX = 31

_TRANSMIT = TRACEPOINTS["tap_transmit"].number
_RECEIVE = TRACEPOINTS["tap_receive"].number


class TapSession(NamedTuple):
    """One packet socket: its bit, the device it is bound to (0: any), and its snap length."""

    session: int
    ifindex: int
    snaplen: int


@replica("tap")
def apply_tap(cpu: Cpu, session: int, value: tuple[int, int] | None) -> None:
    """A packet socket was opened or (None) closed."""
    taps = [tap for tap in cpu.net.taps if tap.session != session]
    if value is not None:
        taps.append(TapSession(session, value[0], value[1]))
    cpu.net.taps = taps


def dev_queue_xmit_nit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> None:
    """What leaves through ``dev`` is shown to taps on it and to unbound ones."""
    _copy(cpu, skb, (0, dev.ifindex), dev.ifindex, outgoing=True)


def deliver_taps(cpu: Cpu, skb: SkBuff, matching: tuple[int, ...]) -> None:
    """What arrived is shown to taps bound to one of ``matching`` (0 is the wildcard)."""
    _copy(cpu, skb, matching, skb.dev.ifindex, outgoing=False)


def _copy(
    cpu: Cpu, skb: SkBuff, matching: tuple[int, ...], ifindex: int, *, outgoing: bool
) -> None:
    bits = snaplen = 0
    for tap in cpu.net.taps:
        if tap.ifindex in matching:
            bits |= 1 << tap.session
            snaplen = max(snaplen, tap.snaplen)
    if bits:
        stamp = cpu.now()
        other_host = not outgoing and skb.pkt_type == PACKET_OTHERHOST
        cpu.tap.append(stamp, ifindex, outgoing, bits, skb.frame, snaplen, other_host)
        cpu.trace(_TRANSMIT if outgoing else _RECEIVE, skb.key, ifindex)
