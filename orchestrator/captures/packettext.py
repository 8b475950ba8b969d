"""One packet as tcpdump 4.99 prints it with -nn: Ethernet, VLAN tags, ARP, hex dumps.

What lies inside stands in ``packettext_ip`` and ``packettext_slow``. What is not decoded says so by
name; nothing is guessed, and names of hosts and services are never looked up (as with ``-nn``).
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import NamedTuple

from orchestrator.captures import packettext_ip, packettext_slow

ETHERTYPES = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x8035: "Reverse ARP",
    0x8100: "802.1Q",
    0x86DD: "IPv6",
    0x88A8: "802.1Q-QinQ",
    0x8809: "Slow Protocols",
    0x9000: "Loopback",
}
_TAGS = (0x8100, 0x88A8)
_LINK_BYTES, _SLL2_BYTES = 14, 20


class Detail(NamedTuple):
    """tcpdump's -e, -v, -q, -x (hex: 1, 2 with link header), -X and -A (in the same way)."""

    link: bool = False
    verbose: int = 0
    quiet: bool = False
    hexadecimal: int = 0
    both: int = 0
    ascii: int = 0


PLAIN = Detail()


def describe(frame: bytes, length: int, detail: Detail = PLAIN) -> str:
    """The line (or lines) without its time; ``length`` is the frame's on the wire."""
    skip = _LINK_BYTES
    while int.from_bytes(frame[skip - 2 : skip], "big") in _TAGS:
        skip += 4
    return _packet(frame, length, detail) + dump(frame, skip, detail)


def describe_cooked(packet: bytes, length: int, detail: Detail = PLAIN) -> str:
    """The same for a packet with a LINUX_SLL2 header, behind device and direction."""
    ethertype, ifindex = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[4:8], "big")
    body = packet[_SLL2_BYTES:]
    name = ETHERTYPES.get(ethertype, "Unknown")
    kind = f"ethertype {name} (0x{ethertype:04x}), length {length}: "
    head = f"ifindex {ifindex} {packet[12:18].hex(':')} {kind}"
    text = _payload(ethertype, body, length - _SLL2_BYTES, detail)
    if text is None:
        shown = head + _default(body, detail)
    else:
        shown = (head + text[1]) if detail.link else text[0] + text[1]
    return shown + dump(packet, _SLL2_BYTES, detail)


def _packet(frame: bytes, length: int, detail: Detail) -> str:
    if len(frame) < _LINK_BYTES:
        return f"[|ether] length {length}"
    ethertype = int.from_bytes(frame[12:14], "big")
    ends = f"{frame[6:12].hex(':')} > {frame[:6].hex(':')}"
    name = ETHERTYPES.get(ethertype, "Unknown")
    if detail.quiet:
        kind = name if ethertype in ETHERTYPES else f"Unknown Ethertype (0x{ethertype:04x})"
        head = f"{ends}, {kind}, length {length}: "
    else:
        head = f"{ends}, ethertype {name} (0x{ethertype:04x}), length {length}: "
    body, rest = frame[14:], length - 14
    tags = ""
    while ethertype in _TAGS and len(body) >= 4:
        tag, ethertype = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
        body, rest = body[4:], rest - 4
        dei = ", DEI" if tag >> 12 & 1 else ""
        name = ETHERTYPES.get(ethertype, "Unknown")
        kind = name if detail.quiet else f"ethertype {name} (0x{ethertype:04x})"
        tags += f"vlan {tag & 0xFFF}, p {tag >> 13}{dei}, {kind}, "
    text = _payload(ethertype, body, rest, detail)
    if text is None:
        known = ethertype in ETHERTYPES or ethertype < 1536
        rest_of_it = "(not decoded here)" if known else _default(body, detail)
        return head + (tags if detail.link else "") + rest_of_it
    return (head + tags + text[1]) if detail.link else text[0] + text[1]


def _payload(ethertype: int, body: bytes, length: int, detail: Detail) -> tuple[str, str] | None:
    """(its name in front if no link-level header is, text); None: not known here."""
    if ethertype in (0x0806, 0x8035):
        return "ARP, ", _arp(body, length, detail.verbose)
    if ethertype == 0x0800:
        return "IP ", packettext_ip.ipv4(body, length, detail.verbose, "" if detail.link else "IP ")
    if ethertype == 0x8809:
        return "", packettext_slow.slow_protocols(body, length, detail.verbose)
    if ethertype == 0x9000:
        return "", packettext_slow.loopback(body, length)
    return None


def dump(frame: bytes, skip: int, detail: Detail) -> str:
    """-x, -X and -A; given twice they begin with the link-level header."""
    for given, form in ((detail.ascii, _ascii), (detail.both, _hex), (detail.hexadecimal, _plain)):
        if given:
            return form(frame if given > 1 else frame[skip:])
    return ""


def _default(body: bytes, detail: Detail) -> str:
    """What is shown of a payload that is not known, unless another dump or -q was asked for."""
    dumped = detail.hexadecimal or detail.both or detail.quiet
    return "" if dumped else _hex(body)


def _rows(data: bytes) -> list[tuple[int, bytes, str]]:
    found = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        found.append((at, row, " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))))
    return found


def _plain(data: bytes) -> str:
    return "".join(f"\n\t0x{at:04x}:  {pairs}" for at, _, pairs in _rows(data))


def _hex(data: bytes) -> str:
    return "".join(
        f"\n\t0x{at:04x}:  {pairs:<39}  "
        + "".join(chr(byte) if 0x20 < byte < 0x7F else "." for byte in row)
        for at, row, pairs in _rows(data)
    )


def _ascii(data: bytes) -> str:
    kept = b"\t\n "
    return "\n" + "".join(chr(b) if 0x20 < b < 0x7F or b in kept else "." for b in data)


def _arp(body: bytes, length: int, verbose: int) -> str:
    if len(body) < 28 or body[:6] != b"\x00\x01\x08\x00\x06\x04":
        return f"[|arp] length {length}"
    text = "Ethernet (len 6), IPv4 (len 4), " if verbose else ""
    operation = int.from_bytes(body[6:8], "big")
    sender_mac, sender, target_mac = body[8:14].hex(":"), _address(body[14:18]), body[18:24]
    target = _address(body[24:28])
    if operation == 1:
        known = f" ({target_mac.hex(':')})" if any(target_mac) else ""
        known = " (Broadcast)" if target_mac == b"\xff" * 6 else known
        text += f"Request who-has {target}{known} tell {sender}"
    elif operation == 2:
        text += f"Reply {sender} is-at {sender_mac}"
    elif operation == 3:
        text += f"Reverse Request who-is {target_mac.hex(':')} tell {sender_mac}"
    elif operation == 4:
        text += f"Reverse Reply {target_mac.hex(':')} at {target}"
    else:
        return f"{text}unknown operation {operation} (not decoded here), length {length}"
    return f"{text}, length {length}"


def _address(data: bytes) -> str:
    return str(IPv4Address(data))
