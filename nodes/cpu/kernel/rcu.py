"""RCU: callbacks that run when every CPU has passed a quiescent state, after kernel/rcu/tree.c.

Kernel code here is not preempted, so a read-side section is any stretch without ``schedule()``. A
CPU passes a quiescent state at a context switch, when the tick finds user mode or idle, and while
it is idle. Its own words in RAM say so: ``rcu_qs_seq`` (the grace period for which it reported one)
and ``rcu_dynticks`` (odd while it is not idle). ``gp_seq`` counts grace periods in steps of four;
its lowest bit says that one runs. The boot CPU drives it: the thread ``rcu_sched`` wakes every few
jiffies while a grace period runs and looks at those words (force_qs_rnp); in *classic* (2.6.18)
there is no such thread, and a timer does it. Nothing runs when nobody asked for a grace period.

``call_rcu`` queues on its own CPU; the tick, which goes on while callbacks wait (rcu_needs_cpu),
raises the RCU softirq, which asks for a grace period and later runs the callbacks.

Left out: rcu_bh and preemptible RCU, expedited grace periods, callback offloading; a report of a
quiescent state is seen at the thread's next look, it does not wake it. rcu_tasklet of 2.6.18 is a
timer here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import rcu_stall
from nodes.cpu.kernel.bug import warn
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Pause
from nodes.cpu.kernel.sched import (
    TASK_IDLE,
    TASK_UNINTERRUPTIBLE,
    Task,
    kthread_run,
    wake_up_process,
)
from nodes.cpu.kernel.smp import queue_remote_wakeup, remote_function
from nodes.cpu.kernel.softirq import open_softirq, raise_softirq_irqoff
from nodes.cpu.kernel.timer import Timer
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

GP_RUNS, GP_STEP = 1, 4
#: A CPU that is offline but for its callbacks looks at the grace period after this long.
DEAD_POLL_NS = 100_000
RCU_GP_WAKE = 8  # a record: some CPU wants a grace period

_GP_SEQ = CPU_SCHEMA.index("rcu_gp_seq")
_GP_START = CPU_SCHEMA.index("rcu_gp_start")
_QSMASK = CPU_SCHEMA.index("rcu_qsmask")
_N_FQS = CPU_SCHEMA.index("rcu_n_fqs")
_DYNTICKS = CPU_SCHEMA.index("rcu_dynticks")
_QS_SEQ = CPU_SCHEMA.index("rcu_qs_seq")
_RDP_SEQ = CPU_SCHEMA.index("rcu_rdp_seq")
_TICKS = CPU_SCHEMA.index("rcu_ticks")
_SNAP = CPU_SCHEMA.index("rcu_softirq_snap")
_QLEN = CPU_SCHEMA.index("rcu_qlen")
_SOFTIRQS = CPU_SCHEMA.index("softirqs")

#: What runs when the grace period is over; in the RCU softirq. A plain call, or a context.
Callback = Callable[["Cpu"], Context | None]


class Rcu:
    """struct rcu_data of one CPU, and on the boot CPU the grace periods."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._boot = cpu.ram.page("cpu0", CPU_SCHEMA).words
        self.callbacks: list[tuple[int, Callback]] = []  # (gp_seq that must be over, function)
        self.passed = False  # a quiescent state since the grace period was noticed
        self.nesting = 0  # rcu_read_lock
        self.gps = GracePeriods(cpu)
        names = cpu.params.softirq_names
        self._softirq = names.index("RCU") if "RCU" in names else None
        self._tasklet = Timer(lambda cpu: self.core())
        self._requested = 0
        if self._softirq is not None:
            open_softirq(cpu, self._softirq, lambda cpu: self.core())

    def call(self, function: Callback) -> None:
        """call_rcu."""
        now: int = self._boot[_GP_SEQ]
        over = (now + 2 * (GP_STEP - 1) + 1) & -GP_STEP  # one that begins from now on
        self.callbacks.append((over, function))
        self._cpu.words[_QLEN] = len(self.callbacks)

    # -- from the tick

    def sched_clock_irq(self) -> None:
        """Is there anything to do for RCU on this CPU?"""
        seq: int = self._boot[_GP_SEQ]
        if not (seq & GP_RUNS or self.callbacks):
            return
        cpu, words = self._cpu, self._cpu.words
        self._note_gp_changes(seq)
        if len(cpu.stack) == 1 and (cpu.current.user or cpu.current is cpu.idle):
            self.passed = True  # the tick came in user mode or idle
        words[_TICKS] += 1
        if seq & GP_RUNS:
            rcu_stall.check_cpu_stall(cpu, seq)
        if self._pending(seq):
            if self._softirq is None:
                if not self._tasklet.pending():
                    cpu.timers.mod_timer(self._tasklet, cpu.jiffies())
            else:
                raise_softirq_irqoff(cpu, self._softirq)

    def _note_gp_changes(self, seq: int) -> None:
        words = self._cpu.words
        if seq & GP_RUNS and words[_RDP_SEQ] != seq:
            words[_RDP_SEQ] = seq
            words[_TICKS] = 0
            words[_SNAP] = words[_SOFTIRQS + self._softirq] if self._softirq is not None else 0
            self.passed = False

    def _pending(self, seq: int) -> bool:
        """rcu_pending: a report to make, callbacks to run, or a grace period to ask for."""
        if self.passed and seq & GP_RUNS and self._cpu.words[_QS_SEQ] != seq:
            return True
        callbacks = self.callbacks
        return bool(callbacks) and (callbacks[0][0] <= seq or callbacks[-1][0] > self._requested)

    # -- the softirq

    def core(self) -> Context:
        """rcu_core."""
        cpu, words = self._cpu, self._cpu.words
        seq: int = self._boot[_GP_SEQ]
        if seq & GP_RUNS and self.passed and words[_RDP_SEQ] == seq:
            words[_QS_SEQ] = seq
        if self.callbacks and self.callbacks[-1][0] > self._requested:
            self._requested = self.callbacks[-1][0]
            if cpu.boot:
                self.gps.request(self._requested)
            else:
                yield from queue_remote_wakeup(cpu, 0, [RCU_GP_WAKE, self._requested])
        while self.callbacks and self.callbacks[0][0] <= seq:
            _, function = self.callbacks.pop(0)
            words[_QLEN] = len(self.callbacks)
            context = function(cpu)
            if context is not None:
                yield from context
            yield

    # -- the CPU goes offline

    def cpu_dying(self) -> None:
        """rcu_report_dead: nobody waits for this CPU any more; what it promised is kept."""
        self._cpu.words[_QS_SEQ] = self._boot[_GP_SEQ]

    def cpu_dead(self) -> Context:
        """Callbacks that wait still. Linux moves them (rcutree_migrate_callbacks); here only this
        CPU knows what they do, so it stays until their grace period is over and runs them."""
        cpu = self._cpu
        self._requested = 0
        while self.callbacks:
            yield from self.core()
            yield Pause(cpu.now() + DEAD_POLL_NS)


class GracePeriods:
    """rcu_state, on the boot CPU: which grace period is wanted, and the machine that makes them."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._wanted = 0
        self._task: Task | None = None
        self._timer = Timer(lambda cpu: self._step())
        self._holdouts: dict[int, int] = {}  # CPU -> its dynticks when the grace period began
        hz = cpu.params.hz
        self._till_fqs = 1 + (hz > 250) + (hz > 500)

    def start(self) -> None:
        """rcu_spawn_gp_kthread."""
        if self._cpu.params.rcu == "tree":
            self._task = kthread_run(self._cpu, self._cpu.params.rcu_name, self._kthread())

    def request(self, seq: int) -> None:
        """A grace period that ends at ``seq`` is wanted."""
        self._wanted = max(self._wanted, seq)
        if self._task is not None:
            if not self._cpu.words[_GP_SEQ] & GP_RUNS:
                wake_up_process(self._cpu, self._task)
        elif not self._timer.pending():
            self._step()

    def _kthread(self) -> Context:
        """rcu_gp_kthread."""
        cpu = self._cpu
        task = cpu.current

        def wake(cpu: Cpu) -> None:
            wake_up_process(cpu, task)

        while True:
            while self._wanted <= cpu.words[_GP_SEQ]:
                task.state = TASK_IDLE
                yield SCHEDULE
            self._init()
            while self._holdouts:
                timer = Timer(wake)
                cpu.timers.mod_timer(timer, cpu.jiffies() + self._till_fqs)
                while timer.pending():
                    task.state = TASK_IDLE
                    yield SCHEDULE
                self._force_qs()
            self._cleanup()
            yield

    def _step(self) -> None:
        """Without a thread: one look, and the next in a jiffy while there is something to wait
        for."""
        cpu = self._cpu
        if cpu.words[_GP_SEQ] & GP_RUNS:
            self._force_qs()
            if not self._holdouts:
                self._cleanup()
        if not cpu.words[_GP_SEQ] & GP_RUNS and self._wanted > cpu.words[_GP_SEQ]:
            self._init()
        if cpu.words[_GP_SEQ] & GP_RUNS:
            cpu.timers.mod_timer(self._timer, cpu.jiffies() + 1)

    def _init(self) -> None:
        """rcu_gp_init: wait for every CPU that is online now."""
        cpu, words = self._cpu, self._cpu.words
        self._holdouts = {n: self._words(n)[_DYNTICKS] for n in cpu.online_cpus}
        self._show()
        words[_GP_START] = cpu.jiffies()
        words[_N_FQS] = 0
        rcu_stall.record_gp_stall_check_time(cpu)
        words[_GP_SEQ] += GP_RUNS

    def _force_qs(self) -> None:
        """Who has reported, or has been idle since it began?"""
        words = self._cpu.words
        words[_N_FQS] += 1
        seq = words[_GP_SEQ]
        for number, snap in list(self._holdouts.items()):
            if number not in self._cpu.online_cpus:
                del self._holdouts[number]  # it went offline
                continue
            theirs = self._words(number)
            dynticks: int = theirs[_DYNTICKS]
            if theirs[_QS_SEQ] == seq or dynticks % 2 == 0 or dynticks != snap:
                del self._holdouts[number]
        self._show()

    def _cleanup(self) -> None:
        """rcu_gp_cleanup."""
        self._cpu.words[_GP_SEQ] += GP_STEP - GP_RUNS

    def _words(self, number: int) -> memoryview:
        return self._cpu.ram.page(f"cpu{number}", CPU_SCHEMA).words

    def _show(self) -> None:
        self._cpu.words[_QSMASK] = sum(1 << number for number in self._holdouts)


@remote_function(RCU_GP_WAKE)
def rcu_gp_wake(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    """rcu_gp_kthread_wake for a CPU that has callbacks."""
    cpu.rcu.gps.request(record[1])
    return None


def call_rcu(cpu: Cpu, function: Callback) -> None:
    """Run ``function(cpu)`` in a softirq of this CPU after a grace period."""
    cpu.rcu.call(function)


def synchronize_rcu(cpu: Cpu) -> Context:
    """Sleep until a grace period is over."""
    if cpu.rcu.nesting:
        warn(
            cpu,
            "kernel/rcu/tree.c",
            "Illegal synchronize_rcu() in RCU read-side critical section",
        )
    if len(cpu.online_cpus) == 1:
        return  # rcu_blocking_is_gp: that this task sleeps is all it takes
    task, over = cpu.current, False

    def wakeme_after_rcu(cpu: Cpu) -> None:
        nonlocal over
        over = True
        wake_up_process(cpu, task)

    call_rcu(cpu, wakeme_after_rcu)
    while not over:
        task.state = TASK_UNINTERRUPTIBLE
        yield SCHEDULE


def synchronize_net(cpu: Cpu) -> Context:
    """Until no CPU can still be looking at what was unhooked from the network."""
    yield from synchronize_rcu(cpu)


def rcu_read_lock(cpu: Cpu) -> None:
    """Nothing but a mark: kernel code is not preempted here."""
    cpu.rcu.nesting += 1


def rcu_read_unlock(cpu: Cpu) -> None:
    cpu.rcu.nesting -= 1
