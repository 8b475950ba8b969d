"""One line a packet, as tcpdump 4.99 prints it with -nn: ARP, IPv4 with ICMP and UDP.

What is not decoded says so by name; nothing is guessed. The link-layer part is tcpdump's -e.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

ETHERTYPES = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x8100: "802.1Q",
    0x86DD: "IPv6",
    0x8809: "Slow Protocols",
}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
_UNREACHABLE = {0: "net {0} unreachable", 1: "host {0} unreachable"}


def describe(frame: bytes, length: int, link: bool = False) -> str:
    """The line without its time; ``link`` adds the addresses and the ethertype."""
    if len(frame) < 14:
        return f"[|ether] length {length}"
    ethertype = int.from_bytes(frame[12:14], "big")
    body = frame[14:]
    payload_length = length - 14
    name = ETHERTYPES.get(ethertype, "Unknown")
    head = f"{_mac(frame[6:12])} > {_mac(frame[:6])}, ethertype {name} (0x{ethertype:04x}), "
    if ethertype == 0x0806:
        text = _arp(body, payload_length)
        return head + f"length {length}: {text}" if link else f"ARP, {text}"
    if ethertype == 0x0800:
        text = _ipv4(body)
        return head + f"length {length}: {text}" if link else f"IP {text}"
    if ethertype in ETHERTYPES:
        return head + f"length {length}: (not decoded here)"
    return head + f"length {length}: " + _hex(body)


def _mac(data: bytes) -> str:
    return data.hex(":")


def _address(data: bytes) -> str:
    return str(IPv4Address(data))


def _hex(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        text = "".join(chr(b) if 0x20 < b < 0x7F else "." for b in row)
        lines.append(f"\n\t0x{at:04x}:  {pairs:<39}  {text}")
    return "".join(lines)


def _arp(body: bytes, length: int) -> str:
    if len(body) < 28 or body[:6] != b"\x00\x01\x08\x00\x06\x04":
        return f"[|arp] length {length}"
    operation = int.from_bytes(body[6:8], "big")
    sender_mac, sender, target_mac, target = body[8:14], body[14:18], body[18:24], body[24:28]
    if operation == 1:
        known = f" ({_mac(target_mac)})" if any(target_mac) else ""
        if target_mac == b"\xff" * 6:
            known = " (Broadcast)"
        return f"Request who-has {_address(target)}{known} tell {_address(sender)}, length {length}"
    if operation == 2:
        return f"Reply {_address(sender)} is-at {_mac(sender_mac)}, length {length}"
    return f"unknown operation {operation}, length {length}"


def _ipv4(packet: bytes) -> str:
    if len(packet) < 20:
        return "[|ip]"
    header = (packet[0] & 15) * 4
    total = int.from_bytes(packet[2:4], "big")
    offset = (int.from_bytes(packet[6:8], "big") & 0x1FFF) * 8
    protocol = packet[9]
    source, target = _address(packet[12:16]), _address(packet[16:20])
    ends = f"{source} > {target}: "
    payload, length = packet[header:total], total - header
    if offset:
        return ends + f"ip-proto-{protocol}"
    if protocol == 1 and len(payload) >= 8:
        return ends + _icmp(payload, length)
    if protocol == 17 and len(payload) >= 8:
        ports = struct.unpack(">HH", payload[:4])
        size = int.from_bytes(payload[4:6], "big") - 8
        return f"{source}.{ports[0]} > {target}.{ports[1]}: UDP, length {size}"
    name = _PROTOCOLS.get(protocol, f"ip-proto-{protocol}")
    return ends + f"{name} {length} (not decoded here)"


def _icmp(payload: bytes, length: int) -> str:
    kind, code = payload[0], payload[1]
    if kind in (0, 8):
        number, sequence = struct.unpack(">HH", payload[4:8])
        word = "request" if kind == 8 else "reply"
        return f"ICMP echo {word}, id {number}, seq {sequence}, length {length}"
    if kind == 3 and code in _UNREACHABLE and len(payload) >= 28:
        lost = _address(payload[24:28])
        return f"ICMP {_UNREACHABLE[code].format(lost)}, length {length}"
    return f"ICMP type-#{kind}, length {length}"
