"""IPv4, ICMP and UDP as tcpdump 4.99 prints them with -nn, -v and -vv.

UDP payloads are never decoded, whatever their ports are; TCP is named and no more.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from nodes.checksum import ones_sum

_PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 89: "OSPF"}
_FLAGS = ((1, "+"), (2, "DF"), (4, "rsvd"))
_ECN = ("", ",ECT(1)", ",ECT(0)", ",CE")
#: By code; {0} is the address that could not be reached.
_UNREACHABLE = {
    0: "net {0} unreachable",
    1: "host {0} unreachable",
    5: "{0} unreachable - source route failed",
    6: "net {0} unreachable - unknown",
    7: "host {0} unreachable - unknown",
    8: "{0} unreachable - source host isolated",
    9: "net {0} unreachable - admin prohibited",
    10: "host {0} unreachable - admin prohibited",
    11: "net {0} unreachable - tos prohibited",
    12: "host {0} unreachable - tos prohibited",
    13: "host {0} unreachable - admin prohibited filter",
    14: "host {0} unreachable - host precedence violation",
    15: "host {0} unreachable - precedence cutoff",
}
_REDIRECTS = ("redirect {0} to net {1}", "redirect {0} to host {1}",
              "redirect-tos {0} to net {1}", "redirect-tos {0} to host {1}")  # fmt: skip
_EXCEEDED = {0: "time exceeded in-transit", 1: "ip reassembly time exceeded"}
_ERRORS = (3, 4, 5, 11, 12)
_OPTIONS = {0: "EOL", 1: "NOP", 7: "RR", 68: "timestamp", 131: "LSRR", 137: "SSRR", 148: "RA"}


def ipv4(packet: bytes, length: int, verbose: int = 0, named: str = "IP ") -> str:
    """The datagram; ``length`` is what the link layer carried of it, ``named`` stands before the
    datagram that an error message quotes."""
    if len(packet) < 20:
        return f"[|ip] length {length}"
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    if header < 20 or total < header:
        return f"bad-hlen {header}" if header < 20 else f"bad-len {total}"
    text = f"truncated-ip - {total - length} bytes missing! " if total > length else ""
    fragment = int.from_bytes(packet[6:8], "big")
    offset, protocol = (fragment & 0x1FFF) * 8, packet[9]
    if verbose:
        text += _header(packet, header, total, fragment) + "\n    "
    source, target = _address(packet[12:16]), _address(packet[16:20])
    payload, size = packet[header:total], total - header
    ends = f"{text}{source} > {target}: "
    if offset:
        return f"{ends}ip-proto-{protocol}"
    more = bool(fragment >> 13 & 1)
    if protocol == 1:
        return ends + _icmp(payload, size, verbose, named, more)
    if protocol == 17:
        if len(payload) < 8:
            return f"{ends}[|udp]"
        ports = struct.unpack(">HH", payload[:4])
        word = _udp_sum(packet, payload, size) if verbose > 1 and not more else ""
        carried = int.from_bytes(payload[4:6], "big") - 8
        return f"{text}{source}.{ports[0]} > {target}.{ports[1]}: {word}UDP, length {carried}"
    if protocol == 6:
        return f"{ends}tcp {size} (not decoded here)"
    name = _PROTOCOLS.get(protocol)
    return (
        f"{ends}{name} {size} (not decoded here)" if name else f"{ends} ip-proto-{protocol} {size}"
    )


def _header(packet: bytes, header: int, total: int, fragment: int) -> str:
    """What -v shows of the header."""
    tos, ttl, protocol = packet[1], packet[8], packet[9]
    flags = ", ".join(name for bit, name in _FLAGS if fragment >> 13 & bit) or "none"
    text = (
        f"(tos 0x{tos:x}{_ECN[tos & 3]}{f', ttl {ttl}' if ttl else ''}, "
        f"id {int.from_bytes(packet[4:6], 'big')}, offset {(fragment & 0x1FFF) * 8}, "
        f"flags [{flags}], proto {_PROTOCOLS.get(protocol, 'unknown')} ({protocol}), "
        f"length {total}"
    )
    if header > 20:
        text += f", options ({_options(packet[20:header])})"
    if len(packet) >= header and ones_sum(packet[:header]) != 0xFFFF:
        right = ones_sum(packet[:10] + b"\0\0" + packet[12:header]) ^ 0xFFFF
        text += f", bad cksum {int.from_bytes(packet[10:12], 'big'):x} (->{right:x})!"
    return text + ")"


def _options(data: bytes) -> str:
    names = []
    while data:
        kind = data[0]
        names.append(_OPTIONS.get(kind, f"unknown {kind}"))
        if kind == 0:
            break
        data = data[1:] if kind == 1 else data[max(2, data[1] if len(data) > 1 else 2) :]
    return ",".join(names)


def _udp_sum(packet: bytes, payload: bytes, size: int) -> str:
    """What -vv says of the checksum."""
    given = int.from_bytes(payload[6:8], "big")
    if not given:
        return "[no cksum] "
    if len(payload) < size:
        return ""
    pseudo = packet[12:20] + b"\0\x11" + payload[4:6]
    if ones_sum(pseudo + payload) == 0xFFFF:
        return "[udp sum ok] "
    right = ones_sum(pseudo + payload[:6] + b"\0\0" + payload[8:]) ^ 0xFFFF
    return f"[bad udp cksum 0x{given:04x} -> 0x{right or 0xFFFF:04x}!] "


def _icmp(payload: bytes, length: int, verbose: int, named: str, more: bool) -> str:
    if len(payload) < 8:
        return "[|icmp]"
    text = f"ICMP {_message(payload)}, length {length}"
    if verbose and not more and len(payload) == length and ones_sum(payload) != 0xFFFF:
        right = ones_sum(payload[:2] + b"\0\0" + payload[4:]) ^ 0xFFFF
        text += f" (wrong icmp cksum {int.from_bytes(payload[2:4], 'big'):x} (->{right:x})!)"
    if verbose and payload[0] in _ERRORS and len(payload) >= 28:
        inner = payload[8:]
        text += f"\n\t{named}" + ipv4(inner, int.from_bytes(inner[2:4], "big"), verbose, named)
    return text


def _message(payload: bytes) -> str:
    kind, code = payload[0], payload[1]
    number, sequence = struct.unpack(">HH", payload[4:8])
    if kind in (0, 8):
        return f"echo {'request' if kind == 8 else 'reply'}, id {number}, seq {sequence}"
    if kind == 4:
        return "source quench"
    if kind == 11:
        return _EXCEEDED.get(code, f"time exceeded-#{code}")
    if kind == 12:
        return f"parameter problem - octet {payload[4]}"
    if kind == 13:
        return f"time stamp query id {number} seq {sequence}"
    if kind == 17:
        return "address mask request"
    if kind not in (3, 5) or len(payload) < 28:
        return f"type-#{kind}"
    lost = _address(payload[24:28])
    if kind == 5:
        form = (
            _REDIRECTS[code] if code < len(_REDIRECTS) else f"redirect-#{code} {{0}} to net {{1}}"
        )
        return form.format(lost, _address(payload[4:8]))
    return _unreachable(code, lost, payload)


def _unreachable(code: int, lost: str, payload: bytes) -> str:
    protocol = payload[17]
    if code == 2:
        return f"{lost} protocol {protocol} unreachable"
    if code == 3:
        at = 8 + (payload[8] & 15) * 4 + 2
        port = int.from_bytes(payload[at : at + 2], "big")
        name = {6: "tcp", 17: "udp"}.get(protocol, f"protocol {protocol}")
        return f"{lost} {name} port {port} unreachable"
    if code == 4:
        mtu = int.from_bytes(payload[6:8], "big")
        return f"{lost} unreachable - need to frag" + (f" (mtu {mtu})" if mtu else "")
    return _UNREACHABLE.get(code, f"{{0}} unreachable - #[{code}]").format(lost)


def _address(data: bytes) -> str:
    return str(IPv4Address(data))
