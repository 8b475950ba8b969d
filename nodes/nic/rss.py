"""Receive-side scaling: which packets are hashed, over what, and which queue that gives.

Source: 82599 datasheet 7.1.2.8; the hash is Microsoft's Toeplitz. Queue = RETA[hash & 127] & 15.
The most specific enabled field wins (TCP before the address pair); a fragment is never hashed over
ports; what is not hashed goes to queue 0 with hash 0 and type 0.

The hash of byte b at position i is looked up in a table of 256 words for each position, made when
first needed; results are kept by the bytes hashed, so a flow costs one dictionary look-up.

Left out: UDP and IPv6-extension fields of MRQC, pools, flow director.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.nic.regfile import RegisterFile

KEY_BYTES = 40
CACHE_FLOWS = 4096

_TCP4, _IP4, _IP6, _TCP6 = 1 << 16, 1 << 17, 1 << 20, 1 << 21
#: MRQC.MRQE values that select plain RSS.
_RSS_MODES = (1,)

NOT_HASHED = (0, 0, 0)


class Hashed(NamedTuple):
    """Queue, hash, and RSS type as the descriptor reports it."""

    queue: int
    hash: int
    type: int


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
        fields = self._fields
        if ethertype == b"\x08\x00":
            if frame[23] == 6 and fields & _TCP4 and not (frame[20] & 0x3F or frame[21]):
                ports = 14 + (frame[14] & 0xF) * 4
                return self._flow(b"\x01", frame[26:34] + frame[ports : ports + 4])
            if fields & _IP4:
                found = self._flows.get(frame[26:34])
                return found if found is not None else self._flow(b"\x02", frame[26:34])
        elif ethertype == b"\x86\xdd":
            if frame[20] == 6 and fields & _TCP6:
                return self._flow(b"\x03", frame[22:58])
            if fields & _IP6:
                return self._flow(b"\x05", frame[22:54])
        return NOT_HASHED

    def _flow(self, kind: bytes, data: bytes) -> tuple[int, int, int]:
        # address pairs of IPv4 are kept by themselves: their length names their kind
        key = data if kind == b"\x02" else kind + data
        found = self._flows.get(key)
        if found is None:
            value = self.hash(data)
            found = Hashed(self.entry(value & 0x7F), value, kind[0])
            if len(self._flows) >= CACHE_FLOWS:
                self._flows.clear()
            self._flows[key] = found
        return found
