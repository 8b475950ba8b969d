"""jiffies: where they start, how they are compared, converted and rounded.

After include/linux/jiffies.h, kernel/time/time.c and the round_jiffies family of kernel/timer.c.
jiffies are an unsigned long of 64 bits whose low half starts five minutes before it wraps, so that
code which forgets the wrap fails early. Comparisons are by signed difference. ``cpu.jiffies()``
follows the clock: no CPU has to be awake to count them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_LONG = 1 << 64
_SIGN = 1 << 63
ULONG_MAX = _LONG - 1
MAX_JIFFY_OFFSET = (_SIGN - 1 >> 1) - 1
NS_PER_SECOND = 1_000_000_000


def initial_jiffies(hz: int) -> int:
    """INITIAL_JIFFIES: (unsigned int)(-300 * HZ)."""
    return -300 * hz & 0xFFFF_FFFF


def signed_difference(a: int, b: int) -> int:
    """(long)(a - b)."""
    return ((a - b + _SIGN) & ULONG_MAX) - _SIGN


def time_after(a: int, b: int) -> bool:
    """Is ``a`` later than ``b``?"""
    return signed_difference(b, a) < 0


def time_after_eq(a: int, b: int) -> bool:
    return signed_difference(a, b) >= 0


def time_before(a: int, b: int) -> bool:
    return time_after(b, a)


def time_before_eq(a: int, b: int) -> bool:
    return time_after_eq(b, a)


def jiffy_ns(cpu: Cpu, jiffy: int) -> int:
    """Clock at which jiffies becomes ``jiffy``."""
    hz = cpu.params.hz
    ticks = signed_difference(jiffy, initial_jiffies(hz))
    return cpu.ram.boot_ns - -ticks * NS_PER_SECOND // hz


def msecs_to_jiffies(cpu: Cpu, ms: int) -> int:
    """Rounded up, as the kernel does; a negative time is for ever."""
    if ms < 0:
        return MAX_JIFFY_OFFSET
    return (ms * cpu.params.hz + 999) // 1000


def _round(cpu: Cpu, jiffy: int, number: int, *, force_up: bool) -> int:
    """round_jiffies_common: whole seconds, a few jiffies apart for each CPU."""
    hz, original = cpu.params.hz, jiffy
    jiffy += number * 3
    rest = jiffy % hz
    if rest < hz // 4 and not force_up:
        jiffy -= rest
    else:
        jiffy += hz - rest
    jiffy -= number * 3
    return jiffy if time_after(jiffy, cpu.jiffies()) else original


def __round_jiffies(cpu: Cpu, jiffy: int, number: int) -> int:
    """Absolute jiffies to a full second, skewed by CPU ``number``."""
    return _round(cpu, jiffy, number, force_up=False)


def __round_jiffies_relative(cpu: Cpu, delta: int, number: int) -> int:
    """The same for a distance from now."""
    now = cpu.jiffies()
    return _round(cpu, delta + now, number, force_up=False) - now


def round_jiffies(cpu: Cpu, jiffy: int) -> int:
    return _round(cpu, jiffy, cpu.number, force_up=False)


def round_jiffies_relative(cpu: Cpu, delta: int) -> int:
    return __round_jiffies_relative(cpu, delta, cpu.number)


def __round_jiffies_up(cpu: Cpu, jiffy: int, number: int) -> int:
    """Never earlier than asked for."""
    return _round(cpu, jiffy, number, force_up=True)


def round_jiffies_up(cpu: Cpu, jiffy: int) -> int:
    return _round(cpu, jiffy, cpu.number, force_up=True)


def round_jiffies_up_relative(cpu: Cpu, delta: int) -> int:
    now = cpu.jiffies()
    return _round(cpu, delta + now, cpu.number, force_up=True) - now
