"""The switch's end of LACP: a partner for each port-channel that negotiates.

Source: IEEE 802.1AX, clause 6.4 (receive, periodic, mux with coupled control), as a switch does it
that is not Linux: its timers are deadlines, not ticks, and a channel is one aggregator. The ports
with the channel's key whose partner has the identity that the channel first agreed on are
aggregated; others stay out (mismatched keys, another bond) until they are the last. A member
without a partner is suspended: it carries no data, as on switches that have no fallback.

    RX    disabled -link-> expired -3 s-> defaulted;  PDU -> current -3 s or 90 s-> expired
    MUX   detached -selected-> waiting -2 s-> attached -partner in sync-> distributing

A partner can be told to be wrong, by member: see ``WRONG``.

Left out: standby links (more members than a channel may have), the churn machine, conversations.
"""

from __future__ import annotations

from typing import Any

from nodes.lan.channel import PARTNERS, Channel, Lan
from nodes.machine import LacpSettings, MachineSettings
from nodes.slowproto import (
    ACTIVITY,
    AGGREGATION,
    COLLECTING,
    DEFAULTED,
    DISTRIBUTING,
    EXPIRED,
    MARKER_INFORMATION,
    MARKER_RESPONSE,
    SYNCHRONIZATION,
    TIMEOUT,
    Lacpdu,
    PortParams,
    lacpdu_frame,
    lacpdu_from,
    marker_frame,
    marker_from,
)

SECOND_NS = 1_000_000_000
FAST_NS, SLOW_NS = SECOND_NS, 30 * SECOND_NS
SHORT_TIMEOUT_NS, LONG_TIMEOUT_NS = 3 * SECOND_NS, 90 * SECOND_NS
WAIT_WHILE_NS = 2 * SECOND_NS
#: No more than three PDUs in any second.
PDUS_A_SECOND = 3

#: Ways to speak wrongly, or not at all.
WRONG = {
    "silent": "sends no PDU, but takes what comes",
    "deaf": "sends, but takes no PDU: it never says whom it talks to",
    "loopback": "sends PDUs in the name of the other end's system, as a looped cable would",
    "not-yours": "says that it talks to another port than the one it hears",
    "out-of-sync": "never agrees: the synchronization bit stays off",
    "individual": "says that its link cannot be aggregated",
    "restless-key": "another key in each PDU",
    "bad-tlv": "the actor's TLV has a wrong type",
    "short": "PDUs end after 60 bytes",
}

_NOBODY = PortParams(0, bytes(6), 0, 0, 0, 0)
_IDENTITY = ACTIVITY | TIMEOUT | SYNCHRONIZATION | AGGREGATION


class Member:
    """One port of the channel: actor, what it knows of its partner, machines, deadlines in ns."""

    def __init__(self, number: int, name: str, settings: LacpSettings) -> None:
        self.number = number
        self.name = name
        self.key = settings.port_key(name)
        self.fits = self.key == settings.key  # a port with another key is not of this channel
        self.wrong = settings.port_wrong(name)
        self.port_state = AGGREGATION | DEFAULTED
        if settings.activity == "active":
            self.port_state |= ACTIVITY
        if settings.rate == "fast":
            self.port_state |= TIMEOUT
        self.partner = _NOBODY
        self.rx = "disabled"
        self.mux = "detached"
        self.selected = False
        self.ntt = False
        self.expires_ns: int | None = None
        self.periodic_ns: int | None = None
        self.attach_ns: int | None = None
        self.sent_ns: list[int] = []  # its last PDUs
        self.illegal = 0  # frames that were no PDU

    def flag(self, bits: int, on: bool) -> None:
        self.port_state = self.port_state | bits if on else self.port_state & ~bits

    def partner_flag(self, bits: int, on: bool) -> None:
        state = self.partner.port_state
        self.partner = self.partner._replace(port_state=state | bits if on else state & ~bits)

    @property
    def identity(self) -> tuple[int, int, bytes, int]:
        """What must be the same of all links of an aggregate."""
        return (self.key, *(self.partner.system_priority, self.partner.system, self.partner.key))

    @property
    def speaks(self) -> bool:
        """Periodic transmission: at least one end is active."""
        return self.rx != "disabled" and bool(
            (self.port_state | self.partner.port_state) & ACTIVITY
        )


class Partner:
    """LACP for one channel. ``ports`` are its members, (port, name)."""

    def __init__(self, ports: list[tuple[int, str]], settings: LacpSettings, lan: Lan) -> None:
        self.settings = settings
        self.members = {number: Member(number, name, settings) for number, name in ports}
        self._lan = lan

    # -- what happens

    def speak(self, port: int, wrong: str) -> None:
        """Wrongly from now on; "": as it is configured."""
        member = self.members[port]
        member.wrong = wrong or self.settings.port_wrong(member.name)

    def link(self, port: int, up: bool, now_ns: int) -> None:
        """The member's link changed."""
        member = self.members[port]
        member.expires_ns = member.periodic_ns = None
        if up:
            member.rx = "expired"
            member.partner = _NOBODY._replace(port_state=TIMEOUT)
            member.flag(EXPIRED, True)
            member.expires_ns = now_ns + SHORT_TIMEOUT_NS
            if member.speaks:
                member.ntt = True
        else:
            member.rx = "disabled"
            member.partner = _NOBODY
            member.sent_ns = []
        member.selected = False
        self._settle(now_ns)

    def receive(self, port: int, frame: bytes, now_ns: int) -> None:
        """A frame of the Slow Protocols came in."""
        member = self.members[port]
        marker = marker_from(frame)
        if marker is not None:
            if marker.kind == MARKER_INFORMATION:
                answer = marker._replace(kind=MARKER_RESPONSE)
                self._lan.emit(port, marker_frame(self.settings.system, answer))
            return
        pdu = lacpdu_from(frame)
        if pdu is None or pdu.actor.system == self.settings.system:
            member.illegal += 1
            return
        if member.wrong == "deaf" or member.rx == "disabled":
            return
        self._current(member, pdu, now_ns)
        self._settle(now_ns)

    def _current(self, member: Member, pdu: Lacpdu, now_ns: int) -> None:
        mine = self._actor(member)
        theirs = pdu.partner
        if theirs[:5] != mine[:5] or (theirs.port_state ^ mine.port_state) & _IDENTITY:
            member.ntt = True
        if pdu.actor[:5] != member.partner[:5]:
            member.selected = False
        matched = theirs[:5] == mine[:5] or not pdu.actor.port_state & AGGREGATION
        member.rx = "current"
        member.partner = pdu.actor
        member.partner_flag(
            SYNCHRONIZATION, matched and bool(pdu.actor.port_state & SYNCHRONIZATION)
        )
        member.flag(DEFAULTED | EXPIRED, False)
        short = member.port_state & TIMEOUT
        member.expires_ns = now_ns + (SHORT_TIMEOUT_NS if short else LONG_TIMEOUT_NS)

    def tick(self, now_ns: int) -> None:
        """Whatever is due."""
        for member in self.members.values():
            if member.expires_ns is not None and now_ns >= member.expires_ns:
                self._expire(member, now_ns)
            if member.periodic_ns is not None and now_ns >= member.periodic_ns:
                member.periodic_ns = None
                member.ntt = True
        self._settle(now_ns)

    def _expire(self, member: Member, now_ns: int) -> None:
        if member.rx == "current":
            member.rx = "expired"
            member.partner_flag(SYNCHRONIZATION, False)
            member.partner_flag(TIMEOUT, True)
            member.flag(EXPIRED, True)
            member.expires_ns = now_ns + SHORT_TIMEOUT_NS
            member.periodic_ns = None  # now it asks for fast ones
        else:
            member.rx = "defaulted"
            member.partner = _NOBODY
            member.flag(DEFAULTED, True)
            member.flag(EXPIRED, False)
            member.selected = False
            member.expires_ns = None

    def next_ns(self) -> int | None:
        """When ``tick`` is to be called at the latest."""
        times = [
            time
            for member in self.members.values()
            for time in (
                member.expires_ns, member.periodic_ns, member.attach_ns, self._send_ns(member),
            )
            if time is not None
        ]  # fmt: skip
        return min(times) if times else None

    def snapshot(self, port: int) -> dict[str, Any]:
        """Machines, both ends' states, and how it is wrong."""
        member = self.members[port]
        return {
            "rx": member.rx,
            "mux": member.mux,
            "selected": member.selected,
            "actor": tuple(self._actor(member)),
            "partner": tuple(member.partner),
            "illegal": member.illegal,
            "wrong": member.wrong,
        }

    # -- selection and mux

    def _settle(self, now_ns: int) -> None:
        self._select()
        for member in self.members.values():
            self._run_mux(member, now_ns)
        for member in self.members.values():
            self._transmit(member, now_ns)

    def _select(self) -> None:
        """The members that agree with those already attached; before any is, with the lowest port
        that has a partner. There one with another key than the channel's gives way to those that
        have it, wherever it stands: else it would keep the channel's own ports out."""
        heard = [m for m in self.members.values() if m.rx == "current"]
        current = [m for m in heard if m.fits] or heard
        known = [m for m in self.members.values() if m.selected or m in heard]
        attached = [m for m in known if m.mux in ("attached", "distributing") and m.selected]
        first = next(iter(attached or current), None)
        for member in known:
            if first is None or member is first:
                continue
            alone = not (member.partner.port_state & first.partner.port_state & AGGREGATION)
            if alone or member.identity != first.identity:
                member.selected = False
            elif member in current:
                member.selected = True
        if first in current:
            first.selected = True

    def _run_mux(self, member: Member, now_ns: int) -> None:
        in_sync = bool(member.partner.port_state & SYNCHRONIZATION)
        before = member.mux
        if not member.selected:
            member.mux, member.attach_ns = "detached", None
        elif member.mux == "detached":
            member.mux, member.attach_ns = "waiting", now_ns + WAIT_WHILE_NS
        if member.mux == "waiting" and member.attach_ns is not None and now_ns >= member.attach_ns:
            member.mux, member.attach_ns = "attached", None
        if member.mux == "attached" and in_sync:
            member.mux = "distributing"
        elif member.mux == "distributing" and not in_sync:
            member.mux = "attached"
        if member.mux == before:
            return
        on = member.mux == "distributing"
        member.flag(SYNCHRONIZATION, member.mux in ("attached", "distributing"))
        member.flag(COLLECTING | DISTRIBUTING, on)
        if member.mux != "waiting":
            member.ntt = True
        if on or before == "distributing":
            self._lan.mux(member.number, on, on)

    def collecting(self, port: int) -> bool:
        return bool(self.members[port].port_state & COLLECTING)

    def distributing(self, port: int) -> bool:
        return bool(self.members[port].port_state & DISTRIBUTING)

    # -- transmit

    def _actor(self, member: Member) -> PortParams:
        settings = self.settings
        return PortParams(
            settings.system_priority,
            settings.system,
            member.key,
            settings.port_priority,
            member.number + 1,
            member.port_state,
        )

    def _send_ns(self, member: Member) -> int | None:
        """When the PDU that it owes may leave."""
        if not member.ntt or not member.speaks:
            return None
        recent = member.sent_ns[-PDUS_A_SECOND:]
        return recent[0] + SECOND_NS if len(recent) == PDUS_A_SECOND else 0

    def _transmit(self, member: Member, now_ns: int) -> None:
        due_ns = self._send_ns(member)
        if due_ns is not None and now_ns >= due_ns:
            member.ntt = False
            member.sent_ns = [*member.sent_ns[1 - PDUS_A_SECOND :], now_ns]
            member.periodic_ns = None
            if member.wrong != "silent":
                self._lan.emit(member.number, self._frame(member))
        if not member.speaks:
            member.periodic_ns = None
        elif member.periodic_ns is None:
            fast = member.partner.port_state & TIMEOUT
            member.periodic_ns = now_ns + (FAST_NS if fast else SLOW_NS)
        elif member.partner.port_state & TIMEOUT:
            member.periodic_ns = min(member.periodic_ns, now_ns + FAST_NS)

    def _frame(self, member: Member) -> bytes:
        actor, partner, wrong = self._actor(member), member.partner, member.wrong
        if wrong == "loopback" and partner.system != bytes(6):
            actor = actor._replace(system=partner.system)
        elif wrong == "not-yours":
            partner = partner._replace(port_number=partner.port_number + 1)
        elif wrong == "out-of-sync":
            hidden = SYNCHRONIZATION | COLLECTING | DISTRIBUTING
            actor = actor._replace(port_state=actor.port_state & ~hidden)
        elif wrong == "individual":
            actor = actor._replace(port_state=actor.port_state & ~AGGREGATION)
        elif wrong == "restless-key":
            member.key = member.key % 0xFFFF + 1
            actor = actor._replace(key=member.key)
        frame = lacpdu_frame(self.settings.system, Lacpdu(actor, partner))
        if wrong == "bad-tlv":
            return frame[:16] + b"\x7f" + frame[17:]
        return frame[:60] if wrong == "short" else frame


def _partner(channel: Channel, lan: Lan, machine: MachineSettings) -> Partner:
    """The partner of one of the machine's channels."""
    settings = next(c for c in machine.lan.channels if c.name == channel.name)
    ports = list(zip(channel.members, settings.members, strict=True))
    return Partner(ports, settings.lacp, lan)


PARTNERS["lacp"] = _partner
