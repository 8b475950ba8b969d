"""What can be broken in a device without ending its process: the one table of fault kinds.

A fault is a state of the device, as a broken part is: the driver is not told. The table feeds the
verb ``fault``, its help and completion, the steps of scenarios and labs, and docs/seeing.md. A
value is one number on the bus and in the device's page:

* ``share``: ``n << 32 | m`` hits n of m, by the node's own random numbers; a number below 2**32
  hits the next so many and is then over;
* ``words``: the place of the word among those that the kind knows, from 1;
* ``time``: ns; ``rate``: bits a second;
* what befalls a cable may befall one way only: bits 63:62 are 0 both ways, ``RX``, ``TX``. A way
  is named as the machine's NIC sees it: ``rx`` goes to the NIC, ``tx`` comes from it.

Broken links and killed or stopped processes are not here: ``cable``, ``kill`` and ``freeze`` are
verbs of their own, with states of their own; ``fault list`` shows them too.
"""

from __future__ import annotations

import re
from math import gcd
from typing import NamedTuple

#: Sorts of targets; a port is one of the switch with its cable.
NIC, APIC, PORT = "nic", "apic", "port"
#: Faults that a device can have at a time, and the words of the page for each of them.
ROWS = 8
ROW_WORDS = 5
#: In this order, in the page: number of the kind + 1 (0: the row is free), value, since when, until
#: when (0: until it is cleared), how often it hit.
KIND, VALUE, SINCE_NS, UNTIL_NS, HITS = range(ROW_WORDS)

ALWAYS = 1 << 32 | 1
COUNT_MAX = (1 << 31) - 1
#: Words of ``hang``.
UNTIL_RESET, HARD = 1, 2
#: Ways of a cable, in bits 63:62 of a value; also the words of ``one-way``: ``rx`` lives.
RX, TX = 1, 2
WAYS = ("", "rx", "tx")
WAY_SHIFT = 62
NUMBER = (1 << WAY_SHIFT) - 1
#: Ways to speak LACP wrongly (``nodes.lan.lacp`` says what each is).
LACP_WRONG = (
    "silent", "deaf", "loopback", "not-yours", "out-of-sync", "individual", "restless-key",
    "bad-tlv", "short",
)  # fmt: skip
#: What a number means.
SHARE, NONE, WORD, TIME, RATE = "share", "none", "word", "time", "rate"
TIME_NS_MAX = 3_600_000_000_000


class Kind(NamedTuple):
    """One row: what breaks, in whom, and what may stand behind the ``=``."""

    name: str
    number: int
    targets: tuple[str, ...]
    values: str
    example: str
    doc: str
    hint: str  # where the kernel or the ledger shows it
    words: tuple[str, ...] = ()  # values that are words; the first one is meant without ``=``
    measure: str = SHARE
    ways: bool = False  # may befall one way of a cable only: ``,rx`` or ``,tx`` behind the value


_SHARE = "next, N (the next N), N/M, P%; without a value all"
_TIME = "a time: 5ms, 200us, 1s"
_WAY = "; ,rx or ,tx behind it: one way only"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("lose-msi", 0, (NIC, APIC), _SHARE, "lose-msi=1",
             "interrupt messages are lost: of a NIC, or all in the controller",
             "ledger `lost: fault lose-msi`; the service task kicks every vector each 2 s"),
        Kind("dup-msi", 1, (NIC, APIC), _SHARE, "dup-msi=1/10",
             "interrupt messages arrive twice",
             "ledger `doubled: fault dup-msi`; the second merges in IRR or finds nothing"),
        Kind("no-dma", 2, (NIC,), "none", "no-dma",
             "no way into memory, as with bus mastering off: descriptors stay, no MSI leaves",
             "`ring`: head stands still; the packet buffer fills, then `rx_drop_missed`",
             measure=NONE),
        Kind("hang", 3, (NIC,), "hard (no reset mends it); without a value until a reset", "hang",
             "the datapath stands still; registers answer, MSIs leave",
             "`ring`: head stands still; a driver that checks for hangs resets the port",
             words=("", "hard"), measure=WORD),
        Kind("loss", 4, (PORT,), _SHARE + _WAY, "loss=2%",
             "frames are lost in the cable",
             "ledger `lan fault_loss`", ways=True),
        Kind("dup", 5, (PORT,), _SHARE + _WAY, "dup=1%",
             "frames arrive twice",
             "ledger `doubled: fault dup`; ping says `(DUP!)`", ways=True),
        Kind("reorder", 6, (PORT,), _SHARE + _WAY, "reorder=10%",
             "frames arrive after the one that follows them, at most 10 ms late",
             "`tcpdump`: icmp_seq goes back by one", ways=True),
        Kind("corrupt", 7, (PORT,), _SHARE + _WAY, "corrupt=1/1000",
             "bits flip, the FCS is wrong: whoever receives the frame drops it",
             "`ethtool -S`: rx_crc_errors; ledger `rx_drop_crc`, `lan fault_fcs`", ways=True),
        Kind("delay", 8, (PORT,), _TIME + _WAY, "delay=5ms",
             "frames are so much longer on their way; 1000 of them at most",
             "ping's times; ledger `lan fault_held` and `lan fault_full`",
             measure=TIME, ways=True),
        Kind("jitter", 9, (PORT,), _TIME + _WAY, "jitter=1ms",
             "frames are up to so much longer on their way, in the same order",
             "ping's mdev", measure=TIME, ways=True),
        Kind("rate", 10, (PORT,), "bits a second: 100Mbit, 1Gbit, 64kbit" + _WAY, "rate=100Mbit",
             "the cable takes no more; 1000 frames wait, what comes then is lost",
             "ping's times under load; ledger `lan fault_full`", measure=RATE, ways=True),
        Kind("silent", 11, (PORT,), "none" + _WAY, "silent",
             "carrier without traffic: the link stays up and nothing passes",
             "miimon never notices, the ARP monitor does; ledger `lan fault_silent`",
             measure=NONE, ways=True),
        Kind("one-way", 12, (PORT,), "rx (the NIC only receives), tx (it only sends)", "one-way=rx",
             "half broken: frames pass in one direction",
             "ledger `lan fault_one_way`", words=("rx", "tx"), measure=WORD),
        Kind("down", 13, (PORT,), "none", "down",
             "the port is shut at the switch: no light either way",
             "the NIC's carrier goes; ledger `lan in_drop_port_down`", measure=NONE),
        Kind("lacp", 14, (PORT,), ", ".join(LACP_WRONG), "lacp=silent",
             "the switch speaks LACP wrongly at a member of a port-channel, or not at all",
             "`cat /proc/net/bonding/bond0`: states of both ends; `dmesg`",
             words=LACP_WRONG, measure=WORD),
    )
}  # fmt: skip
BY_NUMBER: dict[int, Kind] = {kind.number: kind for kind in KINDS.values()}


_TIMES = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_RATES = {"bit": 1, "kbit": 1_000, "Mbit": 1_000_000, "Gbit": 1_000_000_000}


def parse(kind: Kind, text: str | None) -> int:
    """The number of a value; ValueError says what is allowed. ``text`` None: no ``=``."""
    way = 0
    if kind.ways and text is not None:
        head, comma, word = text.rpartition(",")
        if comma or text in WAYS[1:]:
            if word not in WAYS[1:]:
                raise ValueError(kind.values)
            way, text = WAYS.index(word), head or None
    number = _number(kind, text)
    if not number:
        raise ValueError(kind.values)
    return way << WAY_SHIFT | number


def _number(kind: Kind, text: str | None) -> int:
    """0 if it is none."""
    if kind.measure == WORD:
        return kind.words.index(text or "") + 1 if (text or "") in kind.words else 0
    if kind.measure == NONE:
        return int(text is None)
    if kind.measure == TIME:
        return min(_measured(text, _TIMES), TIME_NS_MAX)
    if kind.measure == RATE:
        return _measured(text, _RATES)
    return _share(text)


def _measured(text: str | None, units: dict[str, int]) -> int:
    match = re.fullmatch(r"(\d{1,9})(?:\.(\d{1,6}))?([a-zA-Z]{1,4})", text or "")
    if match is None or match[3] not in units:
        return 0
    return int(match[1] + (match[2] or "").ljust(6, "0")) * units[match[3]] // 1_000_000


def _share(text: str | None) -> int:
    """0 if it is no share."""
    if text in (None, "all"):
        return ALWAYS
    if text == "next":
        return 1
    assert text is not None
    if match := re.fullmatch(r"(\d{1,9})/(\d{1,9})", text):
        n, m = int(match[1]), int(match[2])
    elif match := re.fullmatch(r"(\d{1,3})(?:\.(\d{1,3}))?%", text):
        n, m = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0")), 100_000
    else:
        return int(text) if re.fullmatch(r"\d{1,9}", text) else 0
    if not 0 < n <= m:
        return 0
    common = gcd(n, m)
    return n // common << 32 | m // common


def show(kind: Kind, value: int) -> str:
    """As one types it: ``lose-msi=1/100``, ``hang=hard``, ``delay=5ms,rx``."""
    way = value >> WAY_SHIFT if kind.ways else 0
    word = _shown(kind, value & NUMBER if kind.ways else value)
    if 0 < way < len(WAYS):
        word = f"{word},{WAYS[way]}" if word else WAYS[way]
    return f"{kind.name}={word}" if word else kind.name


def _shown(kind: Kind, value: int) -> str:
    if kind.measure == WORD:
        return kind.words[value - 1] if value <= len(kind.words) else str(value)
    if kind.measure == NONE or value == ALWAYS:
        return ""
    if kind.measure in (TIME, RATE):
        units = _TIMES if kind.measure == TIME else _RATES
        unit = max((u for u in units if not value % units[u]), key=units.__getitem__)
        return f"{value // units[unit]}{unit}"
    if value >> 32:
        return f"{value >> 32}/{value & 0xFFFF_FFFF}"
    return str(value)
