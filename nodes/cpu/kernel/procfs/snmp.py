"""/proc/net/snmp, after net/ipv4/proc.c: names in one line, numbers in the next.

Sums over the pages of all CPUs. TCP and UDP-Lite have no lines: there is none. What nothing here
counts stays 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.ram import Page
from nodes.cpu.kernel.net.protocols import ICMP_ECHO, ICMP_ECHOREPLY
from nodes.cpu.page import ICMP_TYPES, SNMP

_IP = (
    "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos "
    "InDiscards InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs "
    "ReasmFails FragOKs FragFails FragCreates"
)
_TYPES = (
    "DestUnreachs TimeExcds ParmProbs SrcQuenchs Redirects Echos EchoReps Timestamps "
    "TimestampReps AddrMasks AddrMaskReps"
)
_TYPE_NUMBERS = (3, 11, 12, 4, 5, 8, 0, 13, 14, 17, 18)
_IN = " ".join("In" + name for name in _TYPES.split())
_OUT = " ".join("Out" + name for name in _TYPES.split())
_ICMP = {
    "2.6.18": f"InMsgs InErrors {_IN} OutMsgs OutErrors {_OUT}",
    "3.10": f"InMsgs InErrors InCsumErrors {_IN} OutMsgs OutErrors {_OUT}",
    "6.1": f"InMsgs InErrors InCsumErrors {_IN} OutMsgs OutErrors OutRateLimitGlobal "
    f"OutRateLimitHost {_OUT}",
}
_UDP = {
    "2.6.18": "InDatagrams NoPorts InErrors OutDatagrams",
    "3.10": "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors",
    "6.1": "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors "
    "IgnoredMulti MemErrors",
}
_FORWARDING, _TTL = 2, 64


def render_snmp(boot: Mapping[str, Any], pages: Mapping[str, Page]) -> str:
    """The whole file."""
    era = boot["proc_format"]
    found = dict(zip(SNMP, _sum(pages, "snmp"), strict=True))
    icmp_in, icmp_out = _sum(pages, "icmp_in"), _sum(pages, "icmp_errors_out")
    sent = [a + b for a, b in zip(_sum(pages, "icmp_sent"), _sum(pages, "icmp_generated"),
                                  strict=True)]  # fmt: skip
    icmp_out[ICMP_ECHO] += sent[1]
    icmp_out[ICMP_ECHOREPLY] += sent[2]
    found |= {
        "Ip Forwarding": _FORWARDING,
        "Ip DefaultTTL": _TTL,
        "Ip OutRequests": sum(sent),
        "Icmp InMsgs": sum(icmp_in),
        "Icmp OutMsgs": sum(icmp_out),
    }
    for name, number in zip(_TYPES.split(), _TYPE_NUMBERS, strict=True):
        found[f"Icmp In{name}"] = icmp_in[number]
        found[f"Icmp Out{name}"] = icmp_out[number]
    lines = [_lines("Ip", _IP, found), _lines("Icmp", _ICMP[era], found)]
    if era != "2.6.18":
        lines.append(_icmp_msg(icmp_in, icmp_out))
    lines.append(_lines("Udp", _UDP[era], found))
    return "".join(lines)


def _sum(pages: Mapping[str, Page], field: str) -> list[int]:
    return [sum(column) for column in zip(*(p.run(field) for p in pages.values()), strict=True)]


def _lines(protocol: str, names: str, values: Mapping[str, int]) -> str:
    numbers = " ".join(str(values.get(f"{protocol} {name}", 0)) for name in names.split())
    return f"{protocol}: {names}\n{protocol}: {numbers}\n"


def _icmp_msg(received: list[int], sent: list[int]) -> str:
    """Only the types that there were; no lines at all before the first."""
    rows = [(f"InType{n}", received[n]) for n in range(ICMP_TYPES) if received[n]]
    rows += [(f"OutType{n}", sent[n]) for n in range(ICMP_TYPES) if sent[n]]
    if not rows:
        return ""
    names = " ".join(name for name, _ in rows)
    return f"IcmpMsg: {names}\nIcmpMsg: " + " ".join(str(count) for _, count in rows) + "\n"
