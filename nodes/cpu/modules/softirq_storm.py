"""Softirqs from calm to overload: who runs them, and what is left for a user task.

An hrtimer stands for a device: each of its interrupts queues one unit of work and raises a
softirq, whose action works off up to ``budget`` units and raises itself again if there are more,
as NAPI does. Meanwhile a task in user mode computes. For each load (percent of one CPU) there is
one window; its result line says which share of the units ran on the way out of interrupts and
which in ksoftirqd, which share of the CPU the user task got, and for comparison how often NET_RX
ran, which everybody shares with the storm, and which share of these runs was ksoftirqd's::

    softirq_storm: load=150 irq_exit=3 ksoftirqd=97 user=48 dropped=31 net_rx=40 net_rx_ksoftirqd=95

All times are the CPU's own: what interrupts take is not counted as work of what they interrupt.
The hrtimer goes on as by hrtimer_forward: a period that the CPU missed as a whole (its process did
not run) is skipped, so a host that is short of time makes no bursts. There a window lasts longer:
until a quarter of the units that fit into it were worked off and NET_RX has run ``net_rx`` times,
but not longer than ``WINDOWS_MAX`` windows. Shares of next to nothing say nothing.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import HrTimer, nanosleep
from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.percpu import USER, Context, Pause
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
    __raise_softirq_irqoff,
    open_softirq,
    raise_softirq_irqoff,
)
from nodes.cpu.modules import Values, module, report
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "softirq_storm"
QUEUE_MAX = 64
LOAD_MAX, COST_US_MAX, WINDOW_MS_MAX = 1000, 100_000, 600_000
SLICE_NS = 100_000
#: How much longer a window may last than it should.
WINDOWS_MAX = 5

_HARDIRQ_NS = CPU_SCHEMA.index("hardirq_ns")
_SOFTIRQ_NS = CPU_SCHEMA.index("softirq_ns")


class Storm:
    """One device, its softirq and the user task of one CPU."""

    def __init__(self, cpu: Cpu, cost_ns: int, budget: int) -> None:
        self.cpu = cpu
        self.number = cpu.params.softirq_names.index("BLOCK")
        self.cost_ns = cost_ns
        self.budget = budget
        self.period_ns = 0
        self.timer = HrTimer(self.interrupt)
        self.stop = False
        self.user_ns = 0
        self.net_rx_action = cpu.softirq.actions[NET_RX_SOFTIRQ]
        self.clear()

    def clear(self) -> None:
        """Begin a window."""
        self.queued = self.dropped = self.inline = self.threaded = 0
        self.net_rx = self.net_rx_threaded = 0
        self.user_before_ns = self.user_ns

    def interrupt(self, cpu: Cpu) -> None:
        """The device's hard interrupt: one more unit, and the next one after the period."""
        missed = (cpu.now() - self.timer.expires_ns) // self.period_ns
        expires_ns = self.timer.expires_ns + (1 + missed) * self.period_ns
        cpu.timers.hrtimer_start(self.timer, expires_ns)
        if self.queued == QUEUE_MAX:
            self.dropped += 1
        else:
            self.queued += 1
        raise_softirq_irqoff(cpu, self.number)

    def action(self, cpu: Cpu) -> Context:
        """The softirq: up to ``budget`` units."""
        threaded = cpu.current is cpu.softirq.ksoftirqd
        for _ in range(min(self.budget, self.queued)):
            yield from burn(cpu, self.cost_ns, _HARDIRQ_NS)
            self.queued -= 1
            if threaded:
                self.threaded += 1
            else:
                self.inline += 1
        if self.queued:
            _raise_again(cpu, self.number)

    def net_rx_counted(self, cpu: Cpu) -> Context:
        """NET_RX as ever, counted by who runs it."""
        self.net_rx += 1
        self.net_rx_threaded += cpu.current is cpu.softirq.ksoftirqd
        yield from self.net_rx_action(cpu)

    def user(self, cpu: Cpu) -> Context:
        """A task that only computes."""
        while not self.stop:
            yield USER
            self.user_ns += yield from burn(cpu, SLICE_NS, _HARDIRQ_NS, _SOFTIRQ_NS, whole=False)


def _raise_again(cpu: Cpu, number: int) -> None:
    flags = local_irq_save(cpu)
    __raise_softirq_irqoff(cpu, number)
    local_irq_restore(cpu, flags)


def burn(cpu: Cpu, duration_ns: int, *stolen_by: int, whole: bool = True) -> Context:
    """Keep the CPU busy until this context itself has had ``duration_ns``, or (not ``whole``) until
    that much time has passed; returns what it had. ``stolen_by``: words of the page that count the
    time of what may interrupt it."""
    began, before = cpu.now(), sum(cpu.words[word] for word in stolen_by)
    end = began + duration_ns
    while cpu.now() < end:
        yield Pause(end)
        if whole:
            end = began + duration_ns + sum(cpu.words[word] for word in stolen_by) - before
    stolen = sum(cpu.words[word] for word in stolen_by) - before
    return max(0, cpu.now() - began - stolen)


@module(
    NAME,
    params={
        "loads": ("25,75,150", "percent of one CPU, one window each"),
        "window_ms": (100, "length of a window"),
        "cost_us": (400, "work of one unit"),
        "budget": (1, "units that the softirq does before it gives way"),
        "net_rx": (0, "a window goes on until NET_RX has run so often"),
    },
)
def init(cpu: Cpu, params: Values) -> Context:
    """Raise softirqs faster and faster beside a user task; who runs them?"""
    loads = _loads(str(params["loads"]))
    in_range = (
        1 <= params["cost_us"] <= COST_US_MAX
        and 1 <= params["window_ms"] <= WINDOW_MS_MAX
        and params["budget"] >= 1
        and params["net_rx"] >= 0
    )
    if not (loads and in_range):
        return -EINVAL
    storm = Storm(cpu, params["cost_us"] * 1000, params["budget"])
    before = cpu.softirq.actions[storm.number]
    open_softirq(cpu, storm.number, storm.action)
    open_softirq(cpu, NET_RX_SOFTIRQ, storm.net_rx_counted)
    kthread_run(cpu, "user", storm.user(cpu))
    window_ns = params["window_ms"] * 1_000_000
    for load in loads:
        storm.period_ns = storm.cost_ns * 100 // load
        storm.clear()
        began = cpu.now()
        cpu.timers.hrtimer_start(storm.timer, began + storm.period_ns)
        yield from nanosleep(cpu, window_ns)
        fit = window_ns // max(storm.period_ns, storm.cost_ns)
        while cpu.now() < began + WINDOWS_MAX * window_ns and (
            storm.inline + storm.threaded < fit // 4 or storm.net_rx < params["net_rx"]
        ):
            yield from nanosleep(cpu, window_ns // 10)
        cpu.timers.hrtimer_cancel(storm.timer)
        lasted_ns = cpu.now() - began
        _report(cpu, storm, load, lasted_ns)
        while storm.queued:
            yield from nanosleep(cpu, 1_000_000)
    storm.stop = True
    open_softirq(cpu, storm.number, before)
    open_softirq(cpu, NET_RX_SOFTIRQ, storm.net_rx_action)
    return 0


def _loads(text: str) -> list[int]:
    """Percentages; none if one of them is wrong."""
    words = text.split(",")
    loads = [int(word) for word in words if word.isdecimal()]
    good = len(loads) == len(words) and all(1 <= load <= LOAD_MAX for load in loads)
    return loads if good else []


def _report(cpu: Cpu, storm: Storm, load: int, lasted_ns: int) -> None:
    units = max(1, storm.inline + storm.threaded)
    report(
        cpu,
        NAME,
        load=load,
        irq_exit=round(storm.inline * 100 / units),
        ksoftirqd=round(storm.threaded * 100 / units),
        user=round((storm.user_ns - storm.user_before_ns) * 100 / lasted_ns),
        dropped=storm.dropped,
        net_rx=storm.net_rx,
        net_rx_ksoftirqd=round(storm.net_rx_threaded * 100 / max(1, storm.net_rx)),
    )
