"""Interrupt moderation: how long a queue's vector stays silent (ixgbe_set_itr, ixgbe_write_eitr).

``ethtool -C DEV rx-usecs N`` sets one interval for all vectors, 0 none; 1, the default, lets the
driver choose: each time a poll is done it looks at the packets and bytes of both rings since it
looked last (ixgbe_update_itr) and says for each direction, a "ring container", what would suit.
Behaviour ``adaptive_itr``:

* ``rate-class`` (driver 3.2.9): bytes per microsecond put a direction into one of three classes,
  100,000, 20,000 or 8000 interrupts a second; the busier direction counts, and the rate goes a
  tenth of the way at a time (it never quite arrives, for which the real driver writes the register
  after each poll, this one only when it changes);
* ``delay-class`` (3.13.10): the same classes, but it is the interval that goes a tenth of the way;
* ``packet-count`` (4.15): the interval is to bring 48 to 95 packets; a few packets count as waiting
  for an answer and get an interval by their size, the less patient direction counts. Who was not
  asked for more than a jiffy starts again at 10 us.

Left out: 1 Gbit/s, where the last one has coarser steps; RSC, which wants an interval. What lies
between two looks is the difference of the rings' counters, which nothing has to count again.

The vector's state stands in RAM behind its rings'; whoever has polled writes it, ethtool too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import (
    ITR,
    ITR_SETTING,
    RX_BYTES,
    RX_PACKETS,
    TX_BYTES,
    TX_PACKETS,
    Adapter,
    Ring,
)
from nodes.cpu.kernel.jiffies import NS_PER_SECOND

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: rx_itr_setting: the driver chooses.
DYNAMIC = 1

#: struct ixgbe_q_vector: its itr (us << 2; or interrupts a second), the clock up to which counting
#: makes sense, what suits tx and rx; and the rings' counters as they were at the last look.
VECTOR = struct.Struct("=8Q")
_VECTOR_AT = ITR * 8
_pack = VECTOR.pack_into
#: The rings' counters, and the vector behind them.
_FIRST = TX_PACKETS * 8
_COUNTERS = struct.Struct("=2Q8x2Q")
_unpack = struct.Struct(f"=2Q8x2Q{(ITR - RX_BYTES - 1) * 8}x8Q").unpack_from
assert (TX_BYTES, RX_PACKETS, RX_BYTES) == (TX_PACKETS + 1, TX_PACKETS + 3, TX_PACKETS + 4)

LOWEST_LATENCY, LOW_LATENCY, BULK_LATENCY = range(3)
#: Bytes per microsecond above which a class is left for the next one.
_LOW_ABOVE, _BULK_ABOVE = 10, 20
_RATES = (100_000, 20_000, 8000)
_ITRS = (40, 200, 500)  # us << 2: IXGBE_100K_ITR, IXGBE_20K_ITR, IXGBE_8K_ITR

ADAPTIVE_MIN_INC, ADAPTIVE_MIN_USECS, ADAPTIVE_MAX_USECS = 2, 10, 126
ADAPTIVE_LATENCY = 0x80
_IDLE = ADAPTIVE_MIN_USECS | ADAPTIVE_LATENCY

#: f(cpu, adapter, ring): ixgbe_set_itr, when a poll is done and its interrupt not yet enabled.
SetItr = Callable[["Cpu", Adapter, Ring], None]


def update_class(container: int, packets: int, octets: int, us: int) -> int:
    """ixgbe_update_itr of the old drivers: the class of a direction after an interval of ``us``."""
    if not packets or not us:  # 0 us: ethtool was here meanwhile
        return container
    rate = octets // us
    if container == LOWEST_LATENCY:
        return LOW_LATENCY if rate > _LOW_ABOVE else LOWEST_LATENCY
    if container == BULK_LATENCY:
        return LOW_LATENCY if rate <= _BULK_ABOVE else BULK_LATENCY
    if rate > _BULK_ABOVE:
        return BULK_LATENCY
    return LOWEST_LATENCY if rate <= _LOW_ABOVE else LOW_LATENCY


def _set_by_class(
    usecs: Callable[[int], int],
    itrs: tuple[int, int, int],
    smoothed: Callable[[int, int], int],
) -> SetItr:
    """ixgbe_set_itr of the old drivers. ``usecs`` is an itr's interval, ``itrs`` what each class
    wants, and ``smoothed`` how far an itr goes towards that."""

    def set_itr(cpu: Cpu, adapter: Adapter, ring: Ring) -> None:
        memory, at = cpu.ram.bytes, ring.state << 3
        txp, txb, rxp, rxb, itr, _, tx, rx, tp, tb, rp, rb = _unpack(memory, at + _FIRST)
        us = usecs(itr)
        tx = update_class(tx, txp - tp, txb - tb, us)
        rx = update_class(rx, rxp - rp, rxb - rb, us)
        wanted = itrs[tx if tx > rx else rx]
        new = itr if wanted == itr else smoothed(itr, wanted)
        _pack(memory, at + _VECTOR_AT, new, 0, tx, rx, txp, txb, rxp, rxb)
        if new != itr:
            write_eitr(cpu, adapter, ring)

    return set_itr


_set_by_rate = _set_by_class(
    lambda itr: 1_000_000 // itr if itr else 0,
    _RATES,
    lambda itr, wanted: (itr * 9 + wanted) // 10,
)
_set_by_delay = _set_by_class(
    lambda itr: itr >> 2,
    _ITRS,
    lambda itr, wanted: 10 * wanted * itr // (9 * wanted + itr),
)


def _set_by_packets(cpu: Cpu, adapter: Adapter, ring: Ring) -> None:
    memory, at = cpu.ram.bytes, ring.state << 3
    txp, txb, rxp, rxb, itr, until, tx, rx, tp, tb, rp, rb = _unpack(memory, at + _FIRST)
    now, us = cpu.now(), itr >> 2
    if now >= until:
        tx = rx = _IDLE
    else:
        tx = update_usecs(us, tx, txp - tp, txb - tb)
        rx = update_usecs(us, rx, rxp - rp, rxb - rb)
    if now >= until - NS_PER_SECOND // cpu.params.hz:  # it is another jiffy than last time
        until = _next_update(cpu, now)
    # with its flag, a direction that waits for answers gives way to one that does not
    new = ((tx if tx < rx else rx) & ~ADAPTIVE_LATENCY) << 2
    _pack(memory, at + _VECTOR_AT, new, until, tx, rx, txp, txb, rxp, rxb)
    if new != itr:
        write_eitr(cpu, adapter, ring)


def _next_update(cpu: Cpu, now: int) -> int:
    """Packets are counted until jiffies is later than the next one: at this clock."""
    tick = NS_PER_SECOND // cpu.params.hz
    return now + 2 * tick - (now - cpu.ram.boot_ns) % tick


def update_usecs(us: int, container: int, packets: int, octets: int) -> int:
    """ixgbe_update_itr since 4.15: microseconds, with ADAPTIVE_LATENCY if answers are waited for.
    ``us`` is the vector's interval, ``container`` what suited this direction last."""
    if not packets:  # asked for the other direction's sake
        return min(us + ADAPTIVE_MIN_INC, ADAPTIVE_MAX_USECS) + (container & ADAPTIVE_LATENCY)
    if packets < 4 and octets < 9000:
        return _LATENCY_USECS[min(octets // packets, _BULK_SIZE)]
    if packets < 48:  # a little too short
        return min(us + ADAPTIVE_MIN_INC, ADAPTIVE_MAX_USECS)
    if packets < 96:
        return us
    if packets < 256:  # a little too long
        return max(us >> 1, ADAPTIVE_MIN_USECS)
    return _usecs(_delay(octets // packets))


#: Frames of this size and more want the longest interval.
_BULK_SIZE = 1968


def _delay(size: int) -> int:
    """What suits frames of ``size`` bytes, in 1/256 us: 50,000 interrupts a second for the
    smallest, 8000 for the largest."""
    if size <= 60:
        return 5120
    if size <= 316:
        return size * 40 + 2720
    if size <= 1084:
        return size * 15 + 11452
    return size * 5 + 22420 if size < _BULK_SIZE else 32256


def _usecs(delay: int) -> int:
    """Rounded up to a multiple of ADAPTIVE_MIN_INC."""
    return -(-delay // (ADAPTIVE_MIN_INC * 256)) * ADAPTIVE_MIN_INC


#: By size: who waits for an answer waits half as long.
_LATENCY_USECS = [_usecs(_delay(size) >> 1) + ADAPTIVE_LATENCY for size in range(_BULK_SIZE + 1)]


class Adaptive(NamedTuple):
    """What a driver does while it chooses."""

    start: int  # the vector's itr
    container: int  # what suits a direction before anything is known
    set_itr: SetItr
    in_rates: bool  # itr is interrupts a second
    at_up: bool  # does the vector start anew when the port comes up, or when it is made?


ADAPTIVE = {
    "rate-class": Adaptive(20_000, LOWEST_LATENCY, _set_by_rate, True, True),
    "delay-class": Adaptive(200, LOWEST_LATENCY, _set_by_delay, False, False),
    "packet-count": Adaptive(
        200, ADAPTIVE_MAX_USECS | ADAPTIVE_LATENCY, _set_by_packets, False, False
    ),
}


def alloc_q_vector(cpu: Cpu, adapter: Adapter, ring: Ring) -> None:
    """ixgbe_alloc_q_vector, as far as moderation goes."""
    way = ADAPTIVE[cpu.params.adaptive_itr]
    at = ring.state << 3
    counters = _COUNTERS.unpack_from(cpu.ram.bytes, at + TX_PACKETS * 8)
    state = (0, _next_update(cpu, cpu.now()), way.container, way.container)
    VECTOR.pack_into(cpu.ram.bytes, at + ITR * 8, *state, *counters)
    set_setting(cpu, adapter, ring)


def set_setting(cpu: Cpu, adapter: Adapter, ring: Ring) -> None:
    """The vector's itr as rx_itr_setting has it."""
    words, setting = cpu.ram.words64, adapter.rx_itr_setting
    way = ADAPTIVE[cpu.params.adaptive_itr]
    words[ring.state + ITR_SETTING] = setting
    if setting == DYNAMIC:
        words[ring.state + ITR] = way.start
    else:
        words[ring.state + ITR] = 4_000_000 // setting if way.in_rates and setting else setting


def configure_vector(cpu: Cpu, adapter: Adapter, ring: Ring) -> None:
    """ixgbe_configure_msix, one vector: the port comes up."""
    if ADAPTIVE[cpu.params.adaptive_itr].at_up:
        set_setting(cpu, adapter, ring)
    write_eitr(cpu, adapter, ring)


def write_eitr(cpu: Cpu, adapter: Adapter, ring: Ring) -> None:
    """ixgbe_write_eitr; the interval that runs is left alone (CNT_WDIS)."""
    value: int = cpu.ram.words64[ring.state + ITR]
    if ADAPTIVE[cpu.params.adaptive_itr].in_rates:
        # the bits below the interval mean nothing, and this driver does not clear them
        value = 1_000_000_000 // (value * 256) if value else 0
    else:
        value &= regs.EITR_INTERVAL
    adapter.write_reg(regs.eitr(ring.queue), value | regs.EITR_CNT_WDIS)
