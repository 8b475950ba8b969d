"""Tasks and the scheduler of one CPU, after kernel/sched/core.c and fair.c.

Fair scheduling by virtual runtime with Linux's nice weights; a task is preempted only in user mode
or where it calls ``cond_resched`` (PREEMPT_VOLUNTARY). SCHED_FIFO tasks (irq threads) run before
all fair ones, without a limit. Tasks do not migrate by themselves, only when
their CPU goes offline (``programs.migrate``). The O(1) scheduler of 2.6.18 is
not modelled: eras differ in what they run, not in how they pick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bus.messages import CPU_MASK_ALL
from nodes.cpu.kernel.locks.schedule_debug import SetAside, put_back, schedule_debug
from nodes.cpu.kernel.percpu import CONTEXT_TASK, SCHEDULE, Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.page import CPU_SCHEMA, RUN_QUEUE_ROWS
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue import Worker

TASK_RUNNING, TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE, TASK_DEAD, TASK_IDLE = 0, 1, 2, 0x80, 0x402
TASK_PARKED = 0x40
#: State in which a program leaves its CPU for good: its parent has yet to look.
EXIT_ZOMBIE = 0x20
#: task->prio of nice 0.
DEFAULT_PRIO = 120

#: Bit 0 of ``Task.signals``.
TIF_SIGPENDING = 1
SIGINT, SIGQUIT, SIGKILL, SIGSEGV, SIGTERM = 2, 3, 9, 11, 15

#: kernel/sched/core.c sched_prio_to_weight, nice -20 .. 19: each step is 10 % of CPU share.
_WEIGHTS = (
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
    9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277,
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
    110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip
SCHED_LATENCY_NS = 6_000_000
WAKEUP_GRANULARITY_NS = 1_000_000

_FORKS = CPU_SCHEMA.index("forks")
_CTXT = CPU_SCHEMA.index("ctxt")
_NR_RUNNING = CPU_SCHEMA.index("nr_running")
_PID = CPU_SCHEMA.index("current_pid")
_COMM = CPU_SCHEMA.index("current_comm")
_NICE = CPU_SCHEMA.index("current_nice")
_RUN_QUEUE = CPU_SCHEMA.index("run_queue")
_SWITCH = TRACEPOINTS["sched_switch"].number
_WAKEUP = TRACEPOINTS["sched_wakeup"].number
_WAKEUP_NEW = TRACEPOINTS["sched_wakeup_new"].number
_WAKING = TRACEPOINTS["sched_waking"].number
_EXIT = TRACEPOINTS["sched_process_exit"].number
_WAKE_EVENTS = 1 << _WAKEUP | 1 << _WAKEUP_NEW | 1 << _WAKING


def _comm_words(comm: str) -> tuple[int, int]:
    """A task's name as the page holds it: 16 bytes, two words."""
    raw = comm.encode()[:16].ljust(16, b"\0")
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


class Task:
    """A task of one CPU. ``gen`` is its kernel (and user) code; None for the idle task."""

    __slots__ = (
        "aside", "comm", "comm_words", "cpu", "cpus_allowed", "dest_cpu", "gen", "nice", "on_rq",
        "pid", "program", "request", "rt_priority", "runtime_ns", "should_stop",
        "signals", "started_ns", "state", "stime_ns", "stopper", "user", "utime_ns", "vruntime",
        "weight", "worker",
    )  # fmt: skip

    def __init__(
        self, cpu: Cpu, comm: str, gen: Context | None, nice: int = 0, pid: int | None = None
    ) -> None:
        self.cpu = cpu
        if pid is None:
            pid = cpu.rq.new_pid() if gen is not None else 0
        self.pid = pid
        self.comm = comm
        self.comm_words = _comm_words(comm)
        self.gen = gen
        self.nice = nice
        self.weight = _WEIGHTS[nice + 20]
        self.state = TASK_RUNNING
        self.on_rq = False
        self.vruntime = 0
        self.rt_priority = 0  # 0: fair; 1 to 99: SCHED_FIFO
        self.should_stop = False
        self.stopper: Task | None = None  # who waits in kthread_stop
        self.runtime_ns = 0
        self.started_ns = 0
        self.utime_ns = self.stime_ns = 0  # as ticks charged it
        self.user = False  # its last boundary was in user mode
        self.signals = 0  # pending, bit n = signal n; bit 0: TIF_SIGPENDING without any
        self.cpus_allowed = CPU_MASK_ALL
        self.dest_cpu: int | None = None  # it is to go on there, or (dead here) does so
        self.request: int | None = None  # the Spawn that started it
        self.worker: Worker | None = None
        self.program: Any = None
        self.aside: SetAside | None = None


class RunQueue:
    """Runnable tasks of one CPU, the current one not included."""

    def __init__(self, cpu: Cpu) -> None:
        self.next_pid = 1 + cpu.number * 100_000
        self.runnable: list[Task] = []
        self.all: dict[int, Task] = {}
        self.min_vruntime = 0
        self.next_balance = 0  # jiffies of the next look at the other CPUs (balance)

    def new_pid(self) -> int:
        pid = self.next_pid
        self.next_pid += 1
        return pid


def kthread_create(cpu: Cpu, comm: str, gen: Context, nice: int = 0) -> Task:
    """A new task of this CPU, not yet woken."""
    task = Task(cpu, comm, gen, nice)
    task.state = TASK_UNINTERRUPTIBLE
    cpu.rq.all[task.pid] = task
    cpu.words[_FORKS] += 1
    return task


def kthread_run(cpu: Cpu, comm: str, gen: Context, nice: int = 0) -> Task:
    """Create and wake."""
    task = kthread_create(cpu, comm, gen, nice)
    wake_up_process(cpu, task)
    return task


def sched_set_fifo(task: Task, priority: int) -> None:
    """SCHED_FIFO: below every fair virtual runtime, so that it is always picked before them."""
    task.rt_priority = priority
    task.vruntime = -(priority << 64)


def kthread_stop(cpu: Cpu, task: Task) -> Context:
    """Tell a thread to end (it looks at ``should_stop``) and wait until it has."""
    task.should_stop = True
    wake_up_process(cpu, task)
    while task.state != TASK_DEAD:
        task.stopper = cpu.current
        cpu.current.state = TASK_UNINTERRUPTIBLE
        yield SCHEDULE


def wake_up_process(cpu: Cpu, task: Task) -> bool:
    """try_to_wake_up on this CPU; True if it was asleep. A parked thread has to be unparked."""
    if task.state in (TASK_RUNNING, TASK_DEAD, TASK_PARKED):
        return False
    traced = cpu.trace_mask & _WAKE_EVENTS
    if traced and task.started_ns:
        cpu.trace(_WAKING, _who(task) | cpu.number << 48)
    task.state = TASK_RUNNING
    if task is cpu.current or task.on_rq:
        if traced:
            _trace_wakeup(cpu, task)
        return True  # it had not left the CPU yet
    if not task.rt_priority:
        floor = cpu.rq.min_vruntime - SCHED_LATENCY_NS // 2
        task.vruntime = max(task.vruntime, floor)
    task.on_rq = True
    cpu.rq.runnable.append(task)
    if task.worker is not None and cpu.params.worker_hook == "waking-up":
        task.worker.wq_worker_waking_up(cpu)
    current = cpu.current
    if current is cpu.idle:
        cpu.need_resched = True
    else:
        _charge(cpu, current)
        gran = WAKEUP_GRANULARITY_NS * 1024 // task.weight
        if current.vruntime - task.vruntime > gran:
            cpu.need_resched = True
    if traced:
        _trace_wakeup(cpu, task)
    return True


def _who(task: Task) -> int:
    """pid and prio, as trace records hold them."""
    return task.pid | (DEFAULT_PRIO + task.nice) << 32


def _trace_wakeup(cpu: Cpu, task: Task) -> None:
    """A task that has never run yet is new; its record brings its name."""
    if task.started_ns:
        cpu.trace(_WAKEUP, _who(task) | cpu.number << 48)
    else:
        cpu.trace(_WAKEUP_NEW, _who(task) | cpu.number << 48, cpu.symbol(task.comm))


def send_signal(cpu: Cpu, task: Task, signo: int) -> None:
    """Queue a signal; an interruptible sleep ends."""
    task.signals |= 1 << signo
    if task.state == TASK_INTERRUPTIBLE:
        wake_up_process(cpu, task)


def fake_signal_wake_up(cpu: Cpu, task: Task) -> None:
    """End an interruptible sleep as a signal does, though there is none, as the freezer does it:
    the task comes by a safe point of its own, or looks in vain for a signal and sleeps again."""
    task.signals |= TIF_SIGPENDING
    if task.state == TASK_INTERRUPTIBLE:
        wake_up_process(cpu, task)


def _charge(cpu: Cpu, task: Task) -> None:
    """Add the time since the last charge to a running task."""
    now = cpu.now()
    delta = now - task.started_ns
    if delta > 0:
        task.started_ns = now
        task.runtime_ns += delta
        if task.rt_priority:
            return
        task.vruntime += delta if task.weight == 1024 else delta * 1024 // task.weight
        rq, floor = cpu.rq, task.vruntime
        for other in rq.runnable:
            floor = min(floor, other.vruntime)
        rq.min_vruntime = max(rq.min_vruntime, floor)  # a task alone moves it too


def task_runtime_ns(cpu: Cpu, task: Task) -> int:
    """task_sched_runtime of the current task."""
    _charge(cpu, task)
    return task.runtime_ns


def scheduler_tick(cpu: Cpu) -> None:
    """From the tick: has the current task had its share?"""
    current = cpu.current
    if current is cpu.idle:
        cpu.need_resched = bool(cpu.rq.runnable)
        return
    _charge(cpu, current)
    if current.worker is not None:
        current.worker.wq_worker_tick()
    show_run_queue(cpu)
    if cpu.rq.runnable:
        best = min(task.vruntime for task in cpu.rq.runnable)
        if current.vruntime > best:
            cpu.need_resched = True


def schedule(cpu: Cpu) -> None:
    """Leave the current task (it set its state) and pick the next one."""
    rq, prev = cpu.rq, cpu.current
    cpu.need_resched = False
    if (cpu.preempt_count or not cpu.irqs_on) and schedule_debug(cpu, prev):
        return
    cpu.rcu.passed = True  # rcu_note_context_switch
    if prev is not cpu.idle:
        _charge(cpu, prev)
        if prev.state == TASK_RUNNING:
            prev.on_rq = True
            # among equals the first is picked: a preempted SCHED_FIFO task stays at the head
            rq.runnable.insert(0 if prev.rt_priority else len(rq.runnable), prev)
        elif prev.signals and prev.state == TASK_INTERRUPTIBLE:
            prev.state = TASK_RUNNING
            prev.on_rq = True
            rq.runnable.append(prev)
        elif prev.worker is not None and prev.state != TASK_DEAD:
            prev.worker.wq_worker_sleeping(cpu)
            cpu.need_resched = False  # whom that woke is looked at now
    chosen = cpu.idle
    runnable = rq.runnable
    if runnable:
        chosen = runnable[0] if len(runnable) == 1 else min(runnable, key=_vruntime)
        runnable.remove(chosen)
        chosen.on_rq = False
        rq.min_vruntime = max(rq.min_vruntime, chosen.vruntime)
    words = cpu.words
    words[_NR_RUNNING] = len(runnable) + (chosen is not cpu.idle)
    if chosen.worker is not None:
        chosen.worker.wq_worker_running()
    if chosen is prev:
        if prev.aside is not None:
            put_back(cpu, prev, prev.aside)
        return
    words[_CTXT] += 1
    words[_PID] = chosen.pid
    words[_COMM], words[_COMM + 1] = chosen.comm_words
    words[_NICE] = chosen.nice + 20
    if prev is cpu.idle:
        cpu.timers.leave_idle()
    if cpu.trace_mask >> _SWITCH & 1:
        state = prev.state
        if state == TASK_DEAD and prev.dest_cpu is not None:
            state = TASK_RUNNING  # it goes on elsewhere
        elif state == TASK_DEAD and prev.request is not None:
            state = EXIT_ZOMBIE
        cpu.trace(_SWITCH, _who(prev) | state << 48, _who(chosen))
    cpu.current = chosen
    if chosen is not cpu.idle:
        chosen.started_ns = cpu.now()
        cpu.enter_context(CONTEXT_TASK)
    elif words[_RUN_QUEUE]:
        for row in range(RUN_QUEUE_ROWS):
            words[_RUN_QUEUE + row * 5] = 0  # nobody is on the queue
    if chosen.aside is not None:
        put_back(cpu, chosen, chosen.aside)


def _vruntime(task: Task) -> int:
    return task.vruntime


def cond_resched(cpu: Cpu) -> Context:
    """Give way if somebody else should run."""
    if cpu.need_resched:
        yield SCHEDULE


def task_exit(cpu: Cpu, task: Task) -> None:
    """The task's code has returned; ``schedule`` drops it."""
    if cpu.trace_mask >> _EXIT & 1 and task.dest_cpu is None:
        cpu.trace(_EXIT, _who(task), cpu.symbol(task.comm))
    if cpu.preempt_count:
        count = cpu.preempt_count
        printk(cpu, f"note: {task.comm}[{task.pid}] exited with preempt_count {count}")
        cpu.preempt_count = 0
    task.state = TASK_DEAD
    task.gen = None
    cpu.rq.all.pop(task.pid, None)
    if task.stopper is not None:
        wake_up_process(cpu, task.stopper)


def show_run_queue(cpu: Cpu) -> None:
    """Write the rows of the dashboard."""
    rows = [] if cpu.current is cpu.idle else [cpu.current]
    rows += cpu.rq.runnable[: RUN_QUEUE_ROWS - len(rows)]
    flat: list[int] = []
    for task in rows:
        flat += [task.pid, task.nice + 20, task.runtime_ns, *task.comm_words]
    flat += [0] * (RUN_QUEUE_ROWS * 5 - len(flat))
    for i, value in enumerate(flat):
        cpu.words[_RUN_QUEUE + i] = value
