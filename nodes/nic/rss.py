"""Receive-side scaling: which packets are hashed, over what, and which queue that gives.

Source: 82599 datasheet 7.1.2.8; the hash is Microsoft's Toeplitz. Queue = RETA[hash & 127] & 15.
The most specific enabled field wins (TCP or UDP before the address pair); a fragment is never
hashed over ports; what is not hashed goes to queue 0 with hash 0 and type 0. The extension fields
of IPv6 take a home address and the address of a type 2 routing header in place of the header's
own; of two fields with equal input, the plain one gives its type.

The hash of byte b at position i is looked up in a table of 256 words for each position, made when
first needed; results are kept by the bytes hashed, so a flow costs one dictionary look-up.

Left out: pools, DCB, flow director.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from nodes.nic.headers import TCP, UDP, parse
from nodes.nic.regfile import RegisterFile

KEY_BYTES = 40
CACHE_FLOWS = 4096

_TCP4, _IP4, _UDP4 = 1 << 16, 1 << 17, 1 << 22
_IP6, _IP6_EXT = 1 << 20, 1 << 19
#: IPv6 transport: (field, its extension field, their types)
_PORTS6 = {TCP: (1 << 21, 1 << 18, b"\x03", b"\x06"), UDP: (1 << 23, 1 << 24, b"\x08", b"\x09")}
_TYPE_TCP4, _TYPE_IP4, _TYPE_IP6_EXT, _TYPE_IP6, _TYPE_UDP4 = (
    b"\x01", b"\x02", b"\x04", b"\x05", b"\x07",
)  # fmt: skip
#: MRQC.MRQE values that select plain RSS.
_RSS_MODES = (1,)

NOT_HASHED = (0, 0, 0)


class Hashed(NamedTuple):
    """Queue, hash, and RSS type as the descriptor reports it."""

    queue: int
    hash: int
    type: int


@functools.lru_cache(maxsize=16)
def toeplitz_tables(key: bytes) -> list[list[int]]:
    """For each input position the contribution of each byte value."""
    bits = int.from_bytes(key, "big")
    width = len(key) * 8
    tables = []
    for position in range(len(key) - 4):
        windows = [bits >> (width - 32 - position * 8 - bit) & 0xFFFF_FFFF for bit in range(8)]
        table = [0] * 256
        for value in range(1, 256):
            low = value & -value
            table[value] = table[value ^ low] ^ windows[8 - low.bit_length()]
        tables.append(table)
    return tables


class Rss:
    """Queue choice of one port."""

    def __init__(self, regs: RegisterFile) -> None:
        self._regs = regs
        for name in ("MRQC", "RETA", "RSSRK"):
            regs.attach(name, after=self._changed)
        self.reset()

    def reset(self) -> None:
        self._tables: list[list[int]] | None = None
        self._flows: dict[bytes, tuple[int, int, int]] = {}
        self._fields = 0
        self._enabled = False

    def _changed(self, index: int, value: int) -> None:
        self._tables = None
        self._flows.clear()
        mrqc = self._regs.get("MRQC")
        self._enabled = mrqc & 0xF in _RSS_MODES
        self._fields = mrqc & 0xFFFF_0000

    def hash(self, data: bytes) -> int:
        """Toeplitz hash of ``data`` (at most 36 bytes) under the key in RSSRK."""
        if self._tables is None:
            words = [self._regs.get("RSSRK", i) for i in range(KEY_BYTES // 4)]
            self._tables = toeplitz_tables(b"".join(w.to_bytes(4, "little") for w in words))
        result = 0
        for table, byte in zip(self._tables, data, strict=False):
            result ^= table[byte]
        return result

    def entry(self, number: int) -> int:
        """Redirection entry: byte ``number`` & 3 of RETA(``number`` >> 2), low nibble."""
        return self._regs.get("RETA", number >> 2) >> 8 * (number & 3) & 0xF

    def queue(self, frame: bytes) -> tuple[int, int, int]:
        """(queue, hash, type) of an untagged frame."""
        if not self._enabled:
            return NOT_HASHED
        ethertype = frame[12:14]
        if ethertype == b"\x08\x00":
            fields = self._fields
            protocol = frame[23]
            if (protocol == 6 and fields & _TCP4) or (protocol == 17 and fields & _UDP4):
                headers = parse(frame)
                if headers is not None and not headers.fragment:
                    ports = frame[headers.l4 : headers.l4 + 4]
                    return self._flow(
                        _TYPE_TCP4 if protocol == 6 else _TYPE_UDP4, frame[26:34] + ports
                    )
            if fields & _IP4:
                found = self._flows.get(frame[26:34])
                return found if found is not None else self._flow(_TYPE_IP4, frame[26:34])
        elif ethertype == b"\x86\xdd":
            return self._ipv6(frame)
        return NOT_HASHED

    def _ipv6(self, frame: bytes) -> tuple[int, int, int]:
        headers = parse(frame)
        if headers is None:
            return NOT_HASHED
        fields = self._fields
        pair = headers.source + headers.destination
        inside = headers.home + headers.routed
        special = inside != pair
        if headers.protocol in _PORTS6 and not headers.fragment:
            plain, extended, plain_type, extended_type = _PORTS6[headers.protocol]
            ports = frame[headers.l4 : headers.l4 + 4]
            if fields & extended and (special or not fields & plain):
                return self._flow(extended_type, inside + ports)
            if fields & plain:
                return self._flow(plain_type, pair + ports)
        if fields & _IP6_EXT and (special or not fields & _IP6):
            return self._flow(_TYPE_IP6_EXT, inside)
        return self._flow(_TYPE_IP6, pair) if fields & _IP6 else NOT_HASHED

    def _flow(self, kind: bytes, data: bytes) -> tuple[int, int, int]:
        # address pairs of IPv4 are kept by themselves: their length names their kind
        key = data if kind == _TYPE_IP4 else kind + data
        found = self._flows.get(key)
        if found is None:
            value = self.hash(data)
            found = Hashed(self.entry(value & 0x7F), value, kind[0])
            if len(self._flows) >= CACHE_FLOWS:
                self._flows.clear()
            self._flows[key] = found
        return found
