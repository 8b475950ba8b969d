"""The local timer of one CPU: hrtimers, the tick, and its absence while idle.

After kernel/time/tick-sched.c and hrtimer.c in high-resolution mode, where the tick is itself a
high-resolution timer. An idle CPU stops its tick; the local APIC's deadline is then the next timer
that exists. jiffies follow the clock, so no CPU has to keep them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.balance import trigger_load_balance
from nodes.cpu.kernel.hrtimer import HrTimer, HrtimerBase
from nodes.cpu.kernel.jiffies import jiffy_ns
from nodes.cpu.kernel.sched import scheduler_tick
from nodes.cpu.kernel.softirq import TIMER_SOFTIRQ, raise_softirq_irqoff
from nodes.cpu.kernel.timer import TimerBases

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Context, Cpu


class Timers(TimerBases):
    """Timer bases, hrtimer base and tick of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        super().__init__(cpu)
        self._hr = HrtimerBase(cpu)
        self._every_tick = cpu.params.timer_softirq == "every-tick"
        self._ns_per_jiffy = 1_000_000_000 // cpu.params.hz
        self.tick_running = False
        self._next_tick_ns = 0
        self._next_jiffy, self._next_jiffy_ns = 0, 0  # the next timer, and its clock

    def hrtimer_start(self, timer: HrTimer, expires_ns: int) -> None:
        """Arm for an absolute time of this CPU's clock."""
        self._hr.start(timer, expires_ns)
        self.program()

    def hrtimer_cancel(self, timer: HrTimer) -> bool:
        """Disarm; True if it was pending."""
        return self._hr.cancel(timer)

    def interrupt(self) -> None:
        """Body of the local timer's handler: hrtimers, then the tick if one is due."""
        cpu = self._cpu
        now = cpu.now()
        self._hr.run(now)
        if self.tick_running and now >= self._next_tick_ns:
            self._next_tick_ns = self._tick_after(now)
            cpu.time.account_process_tick()
            self._run_local_timers()
            cpu.rcu.sched_clock_irq()
            scheduler_tick(cpu)
            cpu.watchdog.tick(now)
            trigger_load_balance(cpu)
        elif not self.tick_running:
            self._run_local_timers()
            cpu.rcu.sched_clock_irq()
        self.program()

    def _run_local_timers(self) -> None:
        cpu = self._cpu
        if self._every_tick or self.timer_softirq_due(cpu.jiffies()):
            raise_softirq_irqoff(cpu, TIMER_SOFTIRQ)

    def _tick_after(self, now: int) -> int:
        boot = self._cpu.ram.boot_ns
        return boot + ((now - boot) // self._ns_per_jiffy + 1) * self._ns_per_jiffy

    def enter_idle(self) -> None:
        """tick_nohz_idle_enter: no tick while there is nothing to run and RCU has no callbacks."""
        if self._cpu.rcu.callbacks:
            self.leave_idle()
        elif self.tick_running:
            self.tick_running = False
            self._cpu.time.enter_idle()
            self.program()

    def leave_idle(self) -> None:
        """tick_nohz_idle_exit."""
        if not self.tick_running:
            self.tick_running = True
            now = self._cpu.now()
            self._cpu.time.leave_idle()
            self._next_tick_ns = self._tick_after(now)
            self._cpu.watchdog.leave_idle(now)
            self.program()

    def program(self) -> None:
        """Write the local APIC's deadline: the earliest thing that is due."""
        cpu = self._cpu
        deadline = self._hr.next_event()
        if self.tick_running:
            if deadline is None or self._next_tick_ns < deadline:
                deadline = self._next_tick_ns
        elif not cpu.softirq.pending >> TIMER_SOFTIRQ & 1:  # else it is being seen to
            jiffy = self.standard.next_event()
            if jiffy is not None:
                if jiffy != self._next_jiffy:
                    self._next_jiffy, self._next_jiffy_ns = jiffy, jiffy_ns(cpu, jiffy)
                at = self._next_jiffy_ns
                if at <= cpu.now():  # overdue: at the next tick, as on a CPU that has one
                    at = self._tick_after(cpu.now())
                if deadline is None or at < deadline:
                    deadline = at
        cpu.lapic.deadline_ns = deadline


def run_timer_softirq(cpu: Cpu) -> Context:
    """The TIMER softirq."""
    return cpu.timers.run_timer_softirq()
