"""Statistics registers: clear on read, saturating, from totals that only grow.

Source: 82599 datasheet 8.2.3.23. The hot paths add to a few totals; a register remembers the total
at its last clearing read, and reads as the difference, at most 0xFFFFFFFF. So registers that count
the same event (GPTC, TPT, TXDGPC) cost one addition.

Octet counters have 36 bits in a pair: reading the low register clears the low part, the high
register keeps its four bits until it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from nodes.nic.regfile import RegisterFile

COUNTERS = 16
_SIZES = ("64", "127", "255", "511", "1023", "1522")

#: Register -> totals that it is the sum of.
SINGLES: dict[str, tuple[str, ...]] = {
    **{f"PRC{size}": (f"rx_{size}",) for size in _SIZES},
    **{f"PTC{size}": (f"tx_{size}",) for size in _SIZES},
    "GPRC": tuple(f"rx_{size}" for size in _SIZES),
    "RXNFGPC": tuple(f"rx_{size}" for size in _SIZES),  # not filtered out
    "BPRC": ("rx_broadcast",),
    "MPRC": ("rx_multicast",),
    "TPR": ("rx_all",),
    "RUC": ("rx_undersize",),
    "ROC": ("rx_oversize",),
    "RLEC": ("rx_length_error",),
    "CRCERRS": ("rx_crc_error",),
    "LXONRXCNT": ("rx_xon",),
    "LXOFFRXCNT": ("rx_xoff",),
    "XEC": ("rx_checksum",),
    "RXDGPC": ("rx_dma",),
    "GPTC": tuple(f"tx_{size}" for size in _SIZES),
    "TPT": tuple(f"tx_{size}" for size in _SIZES),
    "TXDGPC": ("tx_dma",),
    "BPTC": ("tx_broadcast",),
    "MPTC": ("tx_multicast",),
    "MLFC": ("local_faults",),
}
#: Low and high register -> total.
PAIRS: dict[tuple[str, str], str] = {
    ("GORCL", "GORCH"): "rx_octets",
    ("TORL", "TORH"): "rx_all_octets",
    ("RXDGBCL", "RXDGBCH"): "rx_dma_octets",
    ("GOTCL", "GOTCH"): "tx_octets",
}
#: Register arrays -> totals by counter (0..15) or packet buffer.
ARRAYS = {"QPRC": "queue_rx", "QPTC": "queue_tx", "QPRDC": "queue_dropped"}
ARRAY_PAIRS = {("QBRC_L", "QBRC_H"): "queue_rx_octets", ("QBTC_L", "QBTC_H"): "queue_tx_octets"}

TOTALS = tuple(
    dict.fromkeys([t for totals in SINGLES.values() for t in totals] + list(PAIRS.values()))
)
_AT = {name: i for i, name in enumerate(TOTALS)}
RX_64, TX_64 = _AT["rx_64"], _AT["tx_64"]
assert TOTALS[RX_64 : RX_64 + 6] == tuple(f"rx_{size}" for size in _SIZES)
assert TOTALS[TX_64 : TX_64 + 6] == tuple(f"tx_{size}" for size in _SIZES)
RX_ALL, RX_ALL_OCTETS, RX_OCTETS = _AT["rx_all"], _AT["rx_all_octets"], _AT["rx_octets"]
RX_UNDERSIZE, RX_OVERSIZE = _AT["rx_undersize"], _AT["rx_oversize"]
RX_BROADCAST, RX_MULTICAST, RX_CHECKSUM = (
    _AT["rx_broadcast"], _AT["rx_multicast"], _AT["rx_checksum"],
)  # fmt: skip
RX_LENGTH_ERROR, RX_XON, RX_XOFF = _AT["rx_length_error"], _AT["rx_xon"], _AT["rx_xoff"]
RX_CRC_ERROR = _AT["rx_crc_error"]
RX_DMA, RX_DMA_OCTETS = _AT["rx_dma"], _AT["rx_dma_octets"]
TX_DMA, TX_OCTETS = _AT["tx_dma"], _AT["tx_octets"]
TX_BROADCAST, TX_MULTICAST = _AT["tx_broadcast"], _AT["tx_multicast"]
LOCAL_FAULTS = _AT["local_faults"]

#: Size class of a frame by its length on the wire (with FCS), 0..1023; above: the last.
BUCKET: Sequence[int] = bytes(
    0 if n <= 64 else 1 if n <= 127 else 2 if n <= 255 else 3 if n <= 511 else 4
    for n in range(1024)
)


class Statistics:
    """Totals (``totals[RX_ALL] += 1``) and the registers that show them."""

    def __init__(self, regs: RegisterFile) -> None:
        self._regs = regs
        self.totals = [0] * len(TOTALS)
        self.queue_rx = [0] * COUNTERS
        self.queue_rx_octets = [0] * COUNTERS
        self.queue_dropped = [0] * COUNTERS
        self.queue_tx = [0] * COUNTERS
        self.queue_tx_octets = [0] * COUNTERS
        self.missed = 0
        #: statistics counter of each queue, by RQSMR and TQSM
        self.rx_counter = [0] * 128
        self.tx_counter = [0] * 128
        self._base: dict[tuple[str, int], int] = {}
        self._attach()

    def reset(self) -> None:
        """CTRL.RST: everything reads 0. The lists stay the same objects: hot paths hold them."""
        for array in (
            self.totals, self.queue_rx, self.queue_rx_octets, self.queue_dropped,
            self.queue_tx, self.queue_tx_octets, self.rx_counter, self.tx_counter,
        ):  # fmt: skip
            array[:] = [0] * len(array)
        self.missed = 0
        self._base.clear()

    def _attach(self) -> None:
        def attach(name: str, read: Callable[[int], int]) -> None:
            self._regs.attach(name, read=read, peek=partial(self._peek, read))

        for name, totals in SINGLES.items():
            attach(name, read=partial(self._sum, name, [_AT[t] for t in totals]))
        for (low, high), total in PAIRS.items():
            attach(low, read=partial(self._octets, self._low, low, _AT[total]))
            attach(high, read=partial(self._octets, self._high, low, _AT[total]))
        for name, field in ARRAYS.items():
            attach(name, read=partial(self._element, self._since, name, getattr(self, field)))
        for (low, high), field in ARRAY_PAIRS.items():
            values = getattr(self, field)
            attach(low, read=partial(self._element, self._low, low, values))
            attach(high, read=partial(self._element, self._high, low, values))
        attach("MPC", read=lambda i: self._since("MPC", i, 0 if i else self.missed))
        self._regs.attach("RQSMR", after=partial(self._map, "RQSMR", self.rx_counter))
        self._regs.attach("TQSM", after=partial(self._map, "TQSM", self.tx_counter))

    def _peek(self, read: Callable[[int], int], index: int) -> int:
        """What ``read`` would give, cleared by nobody."""
        base = dict(self._base)
        value = read(index)
        self._base.clear()
        self._base.update(base)
        return value

    def _sum(self, name: str, at: list[int], index: int) -> int:
        return self._since(name, index, sum([self.totals[t] for t in at]))

    def _octets(self, rule: Callable[[str, int, int], int], name: str, at: int, index: int) -> int:
        return rule(name, index, self.totals[at])

    @staticmethod
    def _element(
        rule: Callable[[str, int, int], int], name: str, values: list[int], index: int
    ) -> int:
        return rule(name, index, values[index])

    def _map(self, name: str, counters: list[int], index: int, value: int) -> None:
        value = self._regs.get(name, index)
        counters[4 * index : 4 * index + 4] = [value >> 8 * k & 0xF for k in range(4)]

    def _since(self, name: str, index: int, total: int) -> int:
        key = (name, index)
        value = min(total - self._base.get(key, 0), 0xFFFF_FFFF)
        self._base[key] = total
        return value

    def _low(self, name: str, index: int, total: int) -> int:
        key = (name, index)
        base = self._base.get(key, 0)
        low = (total - base) & 0xFFFF_FFFF
        self._base[key] = base + low
        return low

    def _high(self, name: str, index: int, total: int) -> int:
        key = (name, index)
        base = self._base.get(key, 0)
        high = (total - base) >> 32
        self._base[key] = base + (high << 32)
        return high & 0xF
