"""xmit_hash_policy: the number that picks a slave for a frame, after bond_main.c's hash functions.

Behaviour ``xmit_hash``: *bond-mac* (2.6.18: the layer-2 term has the bond's own address, whatever
the frame's source is), *source-mac* (the frame's source), *flow* (6.1: the EtherType joins layer 2,
and layers 3 and 4 are what the flow dissector finds, folded). All numbers are unsigned 32-bit; 6.1
XORs words as they lie in memory of a little-endian machine.

Of tunnels the encap policies see IP in IP and plain GRE. Left out: ``skb->hash`` of sockets that
have computed one (``l4_hash``), which encap3+4 would take as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

#: As Linux numbers them.
POLICIES = ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")

#: f(frame, bond's MAC) -> number
Hash = Callable[[bytes, bytes], int]

_IPV4, _IPV6, _VLAN = b"\x08\x00", b"\x86\xdd", b"\x81\x00"
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_IPIP, _IPV6_IN_IP, _GRE = 4, 41, 47
_PORTS = {_TCP: 0, _UDP: 0, 33: 0, 50: 0, 132: 0, 136: 0, 51: 4}  # proto_ports_offset
_ICMP_WITH_ID = (0, 8, 13, 14, 15, 16, 17, 18)
_ICMP6_WITH_ID = (128, 129)
_ICMP_ERRORS = (3, 4, 5, 11, 12)


class Flow(NamedTuple):
    """What flow dissection found: addresses, protocol, and where the next header begins."""

    source: bytes
    target: bytes
    protocol: int
    at: int
    fragment: bool


def _ip(frame: bytes, at: int, version: int) -> Flow | None:
    """The IP header at ``at``."""
    if version == 4:
        if len(frame) < at + 20 or frame[at] & 15 < 5:
            return None
        fragment = bool(frame[at + 6] & 0x3F or frame[at + 7])
        end = at + 4 * (frame[at] & 15)
        return Flow(
            frame[at + 12 : at + 16], frame[at + 16 : at + 20], frame[at + 9], end, fragment
        )
    if len(frame) < at + 40:
        return None
    return Flow(frame[at + 8 : at + 24], frame[at + 24 : at + 40], frame[at + 6], at + 40, False)


def _network(frame: bytes) -> Flow | None:
    ethertype, at = frame[12:14], 14
    if ethertype == _VLAN:
        ethertype, at = frame[16:18], 18
    if ethertype == _IPV4:
        return _ip(frame, at, 4)
    return _ip(frame, at, 6) if ethertype == _IPV6 else None


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


# ---------------------------------------------------------------- up to 3.10


def _old_address_term(flow: Flow) -> int:
    """IPv4: the low half of the addresses' XOR. IPv6: words 2, 3 and 4 of it, folded to bytes."""
    both = _xor(flow.source, flow.target)
    if len(both) == 4:
        return int.from_bytes(both[2:], "big")
    words = [int.from_bytes(both[at : at + 4], "little") for at in (4, 8, 12)]
    value = words[0] ^ words[1] ^ words[2]
    return value ^ value >> 24 ^ value >> 16 ^ value >> 8


def _old_layer2(own: bool) -> Hash:
    if own:
        return lambda frame, mac: frame[5] ^ mac[5]
    return lambda frame, mac: frame[5] ^ frame[11]


def _old_layer23(layer2: Hash) -> Hash:
    def layer23(frame: bytes, mac: bytes) -> int:
        flow = _network(frame)
        term = layer2(frame, mac)
        return term if flow is None else term ^ _old_address_term(flow)

    return layer23


def _old_layer34(layer2: Hash) -> Hash:
    def layer34(frame: bytes, mac: bytes) -> int:
        flow = _network(frame)
        if flow is None:
            return layer2(frame, mac)
        value, at = _old_address_term(flow), flow.at
        if flow.protocol in (_TCP, _UDP) and not flow.fragment and len(frame) >= at + 4:
            value ^= int.from_bytes(_xor(frame[at : at + 2], frame[at + 2 : at + 4]), "big")
        return value

    return layer34


# ---------------------------------------------------------------- 6.1


def _bond_eth_hash(frame: bytes) -> int:
    return frame[5] ^ frame[11] ^ (frame[12] << 8 | frame[13])


def _bond_ip_hash(value: int, flow: Flow, *, halve: bool) -> int:
    for address in (flow.source, flow.target):
        for at in range(0, len(address), 4):
            value ^= int.from_bytes(address[at : at + 4], "little")
    value ^= value >> 16
    value ^= value >> 8
    return value >> 1 if halve else value


def _inner(frame: bytes, flow: Flow) -> Flow:
    """Through the tunnels that the dissector knows."""
    while not flow.fragment:
        inside: Flow | None = None
        if flow.protocol == _IPIP:
            inside = _ip(frame, flow.at, 4)
        elif flow.protocol == _IPV6_IN_IP:
            inside = _ip(frame, flow.at, 6)
        elif flow.protocol == _GRE and frame[flow.at : flow.at + 2] == b"\0\0":
            carried = frame[flow.at + 2 : flow.at + 4]
            if carried in (_IPV4, _IPV6):
                inside = _ip(frame, flow.at + 4, 4 if carried == _IPV4 else 6)
        if inside is None:
            break
        flow = inside
    return flow


def _ports_word(frame: bytes, flow: Flow) -> int:
    offset = _PORTS.get(flow.protocol)
    if offset is None or flow.fragment:
        return 0
    return int.from_bytes(frame[flow.at + offset : flow.at + offset + 4], "little")


def _layer4(frame: bytes, flow: Flow) -> tuple[int, Flow]:
    """Type, code and id of an echo; what an ICMP error complains of; ports of anything else."""
    at = flow.at
    if flow.fragment or flow.protocol not in (_ICMP, _ICMP6) or len(frame) < at + 8:
        return _ports_word(frame, flow), flow
    kind = frame[at]
    if kind in (_ICMP_WITH_ID if flow.protocol == _ICMP else _ICMP6_WITH_ID):
        ident = int.from_bytes(frame[at + 4 : at + 6], "big") or 1
        return kind | frame[at + 1] << 8 | ident << 16, flow
    error = kind in _ICMP_ERRORS if flow.protocol == _ICMP else kind < 128
    inside = _ip(frame, at + 8, 4 if flow.protocol == _ICMP else 6) if error else None
    return (0, flow) if inside is None else (_ports_word(frame, inside), inside)


def _flow_hash(*, layer4: bool, encap: bool) -> Hash:
    def hash_of(frame: bytes, mac: bytes) -> int:
        flow = _network(frame)
        if flow is None:
            return _bond_eth_hash(frame)
        if encap:
            flow = _inner(frame, flow)
        if layer4:
            value, flow = _layer4(frame, flow)
        else:
            value = _bond_eth_hash(frame)
        return _bond_ip_hash(value, flow, halve=layer4)

    return hash_of


def _vlan_srcmac(frame: bytes, mac: bytes) -> int:
    vlan = int.from_bytes(frame[14:16], "big") & 0xFFF if frame[12:14] == _VLAN else 0
    return vlan ^ int.from_bytes(frame[6:9], "big") ^ int.from_bytes(frame[9:12], "big")


_FLOW: dict[str, Hash] = {
    "layer2": lambda frame, mac: _bond_eth_hash(frame),
    "layer3+4": _flow_hash(layer4=True, encap=False),
    "layer2+3": _flow_hash(layer4=False, encap=False),
    "encap2+3": _flow_hash(layer4=False, encap=True),
    "encap3+4": _flow_hash(layer4=True, encap=True),
    "vlan+srcmac": _vlan_srcmac,
}


def _old(own: bool) -> dict[str, Hash]:
    layer2 = _old_layer2(own)
    return {
        "layer2": layer2,
        "layer3+4": _old_layer34(layer2),
        "layer2+3": _old_layer23(layer2),
    }


#: By behaviour ``xmit_hash``; which policies an era accepts is the options' business.
_BY_BEHAVIOUR = {"bond-mac": _old(True), "source-mac": _old(False), "flow": _FLOW}


def xmit_hash(behaviour: str, policy: str) -> Hash:
    """The era's function for a policy; one it does not know hashes like layer2."""
    functions = _BY_BEHAVIOUR[behaviour]
    return functions.get(policy, functions["layer2"])


def simple_hash(key: bytes) -> int:
    """_simple_hash of bond_alb.c: XOR of all bytes."""
    value = 0
    for byte in key:
        value ^= byte
    return value
