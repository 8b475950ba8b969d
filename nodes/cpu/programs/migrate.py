"""Programs leave a CPU that goes offline, after migrate_tasks of kernel/sched/core.c.

In Linux the stopper takes runnable tasks off the dying CPU's queue, and a sleeping one finds
another CPU when it is woken. Here a program has to come by a safe point (``programs.process``):
``migrate_tasks`` marks each, ends its interruptible sleep as the freezer does, and waits until all
have gone. A task keeps its pid, name, nice value, pending signals, times and its place in the
queue. So they leave before the CPU is stopped, where Linux moves them while it is.

A program's state crosses in pieces, a handover buffer each, by synchronous calls: when the last
returns, the task exists on the other CPU. Until then the old CPU keeps all that comes for it,
signals and packets, and sends that after it. ``TaskMoved`` is its last word to the orchestrator.

Threads of the kernel's own for each CPU stay. Other kernel threads, which module
code made, cannot be packed: the CPU stays online until they end, and ``-EBUSY`` says so if they do
not in time. (Linux moves them too, unless the module bound them.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgpack

from bus.messages import CPU_MASK_ALL, TaskExit, TaskMoved
from bus.ram import BUFFER_BYTES
from nodes.cpu.kernel.hrtimer import schedule_hrtimeout
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_INFO, printk
from nodes.cpu.kernel.rcu import call_rcu
from nodes.cpu.kernel.sched import (
    DEFAULT_PRIO,
    TASK_UNINTERRUPTIBLE,
    TIF_SIGPENDING,
    Task,
    fake_signal_wake_up,
    send_signal,
    task_runtime_ns,
    wake_up_process,
)
from nodes.cpu.kernel.smp import queue_remote_wakeup, remote_function
from nodes.cpu.kernel.smpcall import EBUSY, smp_call_function_single
from nodes.cpu.programs.process import RESUMES, MovingError, Process
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import CONTROL

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

MIGRATE_TASK, MIGRATED_SIGNAL = 130, 131

#: ``migrate_tasks`` looks again this often, and gives up after that long.
LOOK_NS, GIVE_UP_NS = 1_000_000, 2_000_000_000

_SIGNALS = range(1, 65)
_MIGRATE = TRACEPOINTS["sched_migrate_task"].number


# -- the dying CPU


def migrate_tasks(cpu: Cpu, target: int) -> Context:
    """Empty this CPU of programs; returns 0, or -EBUSY if a task stays. From a thread, in which it
    sleeps. From now on no program may be started here, until ``set_active`` says so."""
    set_active(cpu, False)
    give_up = cpu.now() + GIVE_UP_NS
    while _movable(cpu):
        if cpu.now() >= give_up:
            for process in cpu.programs.running.values():
                process.task.dest_cpu = None
                process.task.signals &= ~TIF_SIGPENDING
            set_active(cpu, True)
            return -EBUSY
        for process in cpu.programs.running.values():
            if process.task.dest_cpu is None and process.name in RESUMES:
                process.task.dest_cpu = _select_fallback_rq(cpu, process.task, target)
                fake_signal_wake_up(cpu, process.task)
        cpu.programs.mover = cpu.current
        cpu.current.state = TASK_UNINTERRUPTIBLE
        yield from schedule_hrtimeout(cpu, cpu.now() + LOOK_NS)
        cpu.programs.mover = None
    return 0


def set_active(cpu: Cpu, active: bool) -> None:
    """set_cpu_active: may programs be started on this CPU?"""
    cpu.programs.active = active


def _movable(cpu: Cpu) -> list[Task]:
    """Tasks that may not stay."""
    return [
        task
        for task in cpu.rq.all.values()
        if task is not cpu.current and not is_per_cpu_kthread(cpu, task)
    ]


def is_per_cpu_kthread(cpu: Cpu, task: Task) -> bool:
    """A thread made for one CPU has its number in its name (kthread_create_on_cpu); workers and the
    threads of interrupts are somebody else's business."""
    if task.request is not None:
        return False
    name, _, number = task.comm.partition("/")
    own = number.partition(":")[0] == str(cpu.number)
    return own or task.worker is not None or name == "irq"


def _select_fallback_rq(cpu: Cpu, task: Task, target: int) -> int:
    """A CPU of the task's mask; if none is online, any, and the log says so."""
    others = [n for n in cpu.online_cpus if n != cpu.number]
    allowed = [n for n in (target, *others) if task.cpus_allowed >> n & 1]
    if allowed:
        return allowed[0]
    task.cpus_allowed = CPU_MASK_ALL
    text = f"process {task.pid} ({task.comm}) no longer affine to cpu{cpu.number}"
    printk(cpu, text, KERN_INFO)
    return target


def _hand_over(cpu: Cpu, process: Process, moving: MovingError) -> Context:
    """The task's end here: in its own context, with nothing of the program left on the stack."""
    task, target = process.task, process.task.dest_cpu
    assert target is not None
    packed = task.signals
    data: bytes = msgpack.packb((process.name, process.hosts, _task_row(cpu, task), moving.state))
    for at in range(0, len(data), BUFFER_BYTES):
        piece = data[at : at + BUFFER_BYTES]
        while (buffer := cpu.handover.put(piece)) is None:
            yield
        last = at + len(piece) == len(data)
        arguments = [process.request, buffer, len(piece), last]
        yield from smp_call_function_single(cpu, target, MIGRATE_TASK, arguments, wait=True)
    cpu.trace(_MIGRATE, task.pid | (DEFAULT_PRIO + task.nice) << 32, cpu.number | target << 32)
    cpu.post(CONTROL, TaskMoved(process.request, f"cpu{target}"))
    task.dest_cpu = target  # also if migrate_tasks gave up waiting meanwhile
    leave(cpu, process)
    late = task.signals & ~packed
    for signo in _SIGNALS:
        if late >> signo & 1:
            record = [MIGRATED_SIGNAL, process.request, signo]
            yield from queue_remote_wakeup(cpu, target, record)
    if moving.moved is not None:
        yield from moving.moved(target)


def leave(cpu: Cpu, process: Process) -> None:
    """The program is no longer this CPU's."""
    cpu.programs.running.pop(process.request, None)
    if cpu.programs.mover is not None:
        wake_up_process(cpu, cpu.programs.mover)


def _task_row(cpu: Cpu, task: Task) -> Sequence[Any]:
    """What of a task_struct goes with it; it is the current one."""
    runtime_ns = task_runtime_ns(cpu, task)
    lag = task.vruntime - cpu.rq.min_vruntime
    return (
        task.pid, task.nice, task.signals & ~TIF_SIGPENDING, task.cpus_allowed, lag,
        runtime_ns, task.started_ns, task.utime_ns, task.stime_ns,
    )  # fmt: skip


# -- its new CPU


@remote_function(MIGRATE_TASK)
def migrate_task(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    """A piece of a program's state; with the last one the task is here."""
    _, request, buffer, length, last = record[:5]
    data = cpu.programs.arriving.setdefault(request, bytearray())
    data += cpu.ram.handover(source).take(buffer, length)
    if last:
        del cpu.programs.arriving[request]
        _take_over(cpu, request, bytes(data))
    return None


def _take_over(cpu: Cpu, request: int, data: bytes) -> None:
    name, hosts, row, state = msgpack.unpackb(data, use_list=False, strict_map_key=False)
    process = Process(cpu, request, name, hosts)
    pid, nice, signals, allowed, lag, runtime_ns, started_ns, utime_ns, stime_ns = row
    task = process.task = Task(cpu, name, None, nice, pid)
    task.signals, task.cpus_allowed, task.request = signals, allowed, request
    task.runtime_ns, task.started_ns = runtime_ns, started_ns
    task.utime_ns, task.stime_ns = utime_ns, stime_ns
    task.vruntime = cpu.rq.min_vruntime + lag
    task.gen = run_to_end(cpu, process, RESUMES[name](cpu, process, state))
    cpu.rq.all[pid] = task
    cpu.programs.running[request] = process
    task.state = TASK_UNINTERRUPTIBLE
    wake_up_process(cpu, task)


@remote_function(MIGRATED_SIGNAL)
def _signal(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    """A signal that came between packing and leaving."""
    process = cpu.programs.running.get(record[1])
    if process is not None:
        send_signal(cpu, process.task, record[2])
    return None


# -- either


def run_to_end(cpu: Cpu, process: Process, main: Context) -> Context:
    """What a program's task runs: main(), or the rest of it, and what comes after."""
    try:
        code: int = yield from main
    except MovingError as moving:
        yield from _hand_over(cpu, process, moving)
        return
    process.task.dest_cpu = None  # it has ended before it could move
    leave(cpu, process)
    call_rcu(cpu, delayed_put_task_struct)
    cpu.post(CONTROL, TaskExit(process.request, code))


def delayed_put_task_struct(_cpu: Cpu) -> None:
    """Nobody can still be looking at the task: its memory is free (Python frees it)."""
