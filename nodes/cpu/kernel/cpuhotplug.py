"""Taking a CPU out of use and back at run time: kernel/cpu.c.

``cpu_down`` and ``cpu_up`` run as a task of the boot CPU, which cannot go itself (it has no
``cpu0/online``); asked on another CPU, even the dying one, they are forwarded there and waited for.
They walk down a table of steps (``cpuhp_states``, behaviour ``cpu_hotplug``): some run here, others
on the CPU concerned, because its memory is its own: in a thread there, told by a record. A step
that fails is undone together with those before it.

On its way down that thread goes through what Linux does in several places::

    thread      interrupts on; programs, works and per-CPU threads leave
    stopped     take_cpu_down: interrupts off; lines move, the local APIC is switched off
    dead        nobody sends to it any more; what it still has goes to the survivor, which in Linux
                reaches into the dead CPU's memory itself
    play_dead   the idle task halts the core until INIT and STARTUP

``stop_machine`` stops only the dying CPU: the others' state is theirs alone. In its place, they are
told of the new mask and a grace period makes sure that nobody is still using the old one.

A CPU that is killed or frozen meanwhile does not answer. Linux waits for it for ever, and
khungtaskd says so (3.10, 6.1); here the request is given up then, with -ETIMEDOUT, and the CPU
stays as it is.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, ETIMEDOUT
from typing import TYPE_CHECKING

from nodes.cpu.kernel.cpuhp_states import BOOT, DOWN, START, UP, Step
from nodes.cpu.kernel.percpu import PLAY_DEAD, SCHEDULE, Context, Pause
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_UNINTERRUPTIBLE,
    Task,
    kthread_run,
    wake_up_process,
)
from nodes.cpu.kernel.smp import call_function_single, queue_record, remote_function
from nodes.cpu.kernel.smpqueue import flush_smp_call_function_queue
from nodes.cpu.kernel.timer import schedule_timeout_uninterruptible
from nodes.cpu.trace import CPUHP_WAYS, TRACEPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodes.cpu.kernel.percpu import Cpu

BOOT_CPU = 0
#: Records: do step ``[serial, way, index]``; it is done ``[serial, errno]``; somebody wants a CPU
#: up or down ``[token, number, up]``; that is done ``[token, errno]``.
CPUHP_STEP, CPUHP_DONE, CPUHP_REQUEST, CPUHP_ANSWER = range(100, 104)
GO_DOWN, GO_UP, GO_BACK = range(len(CPUHP_WAYS))
#: A CPU whose local APIC is off looks for records after this long.
POLL_NS = 20_000
#: An answer is waited for this long where no khungtaskd sets the time.
GIVE_UP_S = 120

#: Who runs the steps on the CPU itself.
THREAD = {"kstopmachine": "kstopmachine", "notifiers": "migration/{}", "states": "cpuhp/{}"}

_ENTER = TRACEPOINTS["cpuhp_enter"].number


class Hotplug:
    """What one CPU knows of hot-plug; the second half is used on the boot CPU."""

    def __init__(self) -> None:
        self.started = False  # it has been online before
        self.thread: Task | None = None
        self.requests: list[tuple[int, int, int]] = []  # (serial, way, index of the step)
        self.polling = False  # its local APIC is off: it looks for records itself
        self.finished = False  # nothing is left but to halt
        self.token = 0
        self.answers: dict[int, int] = {}  # to what this CPU asked of the boot CPU
        self.asking: dict[int, Task] = {}
        # cpu_hotplug.lock, and the request that is under way
        self.busy = False
        self.waiters: list[Task] = []
        self.dying = -1
        self.unfinished: dict[int, int] = {}  # CPU that did not die -> the step it is at
        self.serial = 0
        self.done: dict[int, int] = {}
        self.waiting: Task | None = None


# ---------------------------------------------------------------- what others call


def cpu_down(cpu: Cpu, number: int) -> Context:
    """Take CPU ``number`` offline: 0 or -errno (-EBUSY: the last one, or the boot CPU; -EINVAL: it
    is not online; -ENOSPC: the others have too few vectors; -ETIMEDOUT: it does not answer)."""
    result: int = yield from _forward(cpu, number, _cpu_down, up=False)
    return result


def cpu_up(cpu: Cpu, number: int) -> Context:
    """Bring CPU ``number`` online again: 0 or -errno (-EINVAL: no such CPU, or it is online
    already; -EIO: it does not start)."""
    result: int = yield from _forward(cpu, number, _cpu_up, up=True)
    return result


def _forward(
    cpu: Cpu, number: int, function: Callable[[Cpu, int], Context], *, up: bool
) -> Context:
    hotplug = cpu.hotplug
    if cpu.boot:
        yield from _lock(cpu)
        result = yield from function(cpu, number)
        _unlock(cpu)
        return result
    hotplug.token += 1
    token = hotplug.token
    hotplug.asking[token] = cpu.current
    yield from call_function_single(cpu, BOOT_CPU, [CPUHP_REQUEST, token, number, up])
    while token not in hotplug.answers:
        cpu.current.state = TASK_UNINTERRUPTIBLE
        yield SCHEDULE
    return hotplug.answers.pop(token)


def _lock(cpu: Cpu) -> Context:
    """cpu_maps_update_begin: one request at a time."""
    hotplug = cpu.hotplug
    while hotplug.busy:
        hotplug.waiters.append(cpu.current)
        cpu.current.state = TASK_UNINTERRUPTIBLE
        yield SCHEDULE
    hotplug.busy = True


def _unlock(cpu: Cpu) -> None:
    cpu.hotplug.busy = False
    if cpu.hotplug.waiters:
        wake_up_process(cpu, cpu.hotplug.waiters.pop(0))


@remote_function(CPUHP_REQUEST)
def _requested(cpu: Cpu, source: int, record: list[int]) -> None:
    """On the boot CPU: a task does it for the one that asked."""
    token, number, up = record[1:4]

    def do(cpu: Cpu) -> Context:
        result: int = yield from (cpu_up if up else cpu_down)(cpu, number)
        answer = [CPUHP_ANSWER, token, -result]
        if source in cpu.online_cpus:
            yield from call_function_single(cpu, source, answer)
        else:
            yield from queue_record(cpu, source, answer)  # for when it is back

    kthread_run(cpu, "cpuhp", do(cpu))


@remote_function(CPUHP_ANSWER)
def _answered(cpu: Cpu, _source: int, record: list[int]) -> None:
    cpu.hotplug.answers[record[1]] = -record[2]
    task = cpu.hotplug.asking.pop(record[1], None)
    if task is not None:
        wake_up_process(cpu, task)


# ---------------------------------------------------------------- the boot CPU


def _cpu_down(cpu: Cpu, number: int) -> Context:
    if len(cpu.online_cpus) == 1 or number == BOOT_CPU:
        return -EBUSY
    if not 0 <= number < cpu.machine.cpus:
        return -EINVAL
    if number not in cpu.online_cpus:
        return -EINVAL if cpu.params.hotplug_unchanged == "refused" else 0
    cpu.hotplug.dying = number
    error: int = yield from _walk_down(cpu, number, 0)
    cpu.hotplug.dying = -1
    return error


def _walk_down(cpu: Cpu, number: int, first: int) -> Context:
    """cpuhp_down_callbacks, from step ``first`` on."""
    steps = DOWN[cpu.params.cpu_hotplug]
    for index in range(first, len(steps)):
        error: int = yield from _invoke(cpu, number, GO_DOWN, index, steps[index])
        if not error:
            continue
        if error != -ETIMEDOUT:
            yield from _roll_back(cpu, number, steps[:index])
        elif number not in cpu.online_cpus:
            # it is out of the masks, so it counts as offline; what it has still is kept there
            printk(cpu, f"{_prefix(cpu)}CPU {number} didn't die...", KERN_ERR)
            cpu.hotplug.unfinished[number] = index
            return 0
        return error
    return 0


def _roll_back(cpu: Cpu, number: int, done: tuple[Step, ...]) -> Context:
    """cpuhp_reset_state, or CPU_DOWN_FAILED: what was taken away comes back."""
    for index in reversed(range(len(done))):
        if done[index].undo is not None:
            yield from _invoke(cpu, number, GO_BACK, index, done[index])


def _cpu_up(cpu: Cpu, number: int) -> Context:
    if not 0 <= number < cpu.machine.cpus:
        return -EINVAL
    if number in cpu.online_cpus:
        return -EINVAL if cpu.params.hotplug_unchanged == "refused" else 0
    if number in cpu.hotplug.unfinished:  # it may have thawed: it must die first
        error: int = yield from _walk_down(cpu, number, cpu.hotplug.unfinished.pop(number))
    for index, step in enumerate(UP[cpu.params.cpu_hotplug]):
        if step.side != START:
            error = yield from _invoke(cpu, number, GO_UP, index, step)
            if error:
                return error
    return 0


def _invoke(cpu: Cpu, number: int, way: int, index: int, step: Step) -> Context:
    """cpuhp_invoke_callback: one step, here or there; 0 or -errno."""
    if step.side == BOOT:
        return (yield from _run(cpu, number, way, index))
    hotplug = cpu.hotplug
    hotplug.serial += 1
    serial = hotplug.serial
    record = [CPUHP_STEP, serial, way, index]
    if number in cpu.online_cpus:
        yield from call_function_single(cpu, number, record)
    else:
        yield from queue_record(cpu, number, record)  # its local APIC is off: it looks itself
    return (yield from _wait_for_step(cpu, number, serial))


def _run(cpu: Cpu, number: int, way: int, index: int) -> Context:
    """The step itself, where it is to run."""
    step = (UP if way == GO_UP else DOWN)[cpu.params.cpu_hotplug][index]
    function = step.undo if way == GO_BACK else step.run
    assert function is not None
    if cpu.trace_mask >> _ENTER & 1:
        cpu.trace(_ENTER, number | way << 8 | index << 16, cpu.symbol(step.name))
    result = function(cpu, number)
    if result is not None and not isinstance(result, int):
        result = yield from result
    return result or 0


def _wait_for_step(cpu: Cpu, number: int, serial: int) -> Context:
    """wait_for_ap_thread, with an end: see the module's text."""
    hotplug, params, task = cpu.hotplug, cpu.params, cpu.current
    hung_s = params.hung_task_timeout_secs
    alive = number in cpu.online_cpus
    limit_ms = (hung_s or GIVE_UP_S) * 1000 if alive else params.cpu_die_timeout_ms
    end = cpu.jiffies() + limit_ms * params.hz // 1000
    hotplug.waiting = task
    while serial not in hotplug.done:
        left = end - cpu.jiffies()
        if left <= 0:
            if alive and hung_s:
                blocked = f"task {task.comm}:{task.pid} blocked for more than {hung_s} seconds."
                printk(cpu, f"INFO: {blocked}", KERN_ERR)
            hotplug.waiting = None
            return -ETIMEDOUT
        yield from schedule_timeout_uninterruptible(cpu, left)
    hotplug.waiting = None
    return -hotplug.done.pop(serial)


def _prefix(cpu: Cpu) -> str:
    return "" if cpu.params.log_format == "2.6.18" else "smpboot: "


@remote_function(CPUHP_DONE)
def _step_done(cpu: Cpu, _source: int, record: list[int]) -> None:
    """complete(&st->done); an answer that comes too late is nobody's."""
    if record[1] == cpu.hotplug.serial:
        cpu.hotplug.done = {record[1]: record[2]}
        if cpu.hotplug.waiting is not None:
            wake_up_process(cpu, cpu.hotplug.waiting)


# ---------------------------------------------------------------- the CPU itself


@remote_function(CPUHP_STEP)
def _step(cpu: Cpu, _source: int, record: list[int]) -> None:
    hotplug = cpu.hotplug
    hotplug.requests.append((record[1], record[2], record[3]))
    if hotplug.thread is None:
        name = THREAD[cpu.params.cpu_hotplug].format(cpu.number)
        hotplug.thread = kthread_run(cpu, name, cpuhp_thread_fun(cpu))
    else:
        wake_up_process(cpu, hotplug.thread)


def cpuhp_thread_fun(cpu: Cpu) -> Context:
    """Run what the boot CPU asks for, all the way down."""
    hotplug = cpu.hotplug
    while not hotplug.finished:
        if hotplug.requests:
            serial, way, index = hotplug.requests.pop(0)
            error = yield from _run(cpu, cpu.number, way, index)
            yield from call_function_single(cpu, BOOT_CPU, [CPUHP_DONE, serial, -error])
        elif hotplug.polling:
            yield from flush_smp_call_function_queue(cpu)
            if cpu.irqs_on and cpu.rq.runnable:
                yield SCHEDULE  # the rest of some thread that ends or parks
            if not hotplug.requests:
                yield Pause(cpu.now() + POLL_NS)
        else:
            cpu.current.state = TASK_INTERRUPTIBLE
            yield SCHEDULE
    hotplug.thread = None
    cpu.idle.gen = play_dead()


def play_dead() -> Context:
    """arch_cpu_idle_dead: the idle task of a CPU that has nothing any more."""
    yield PLAY_DEAD


def cpu_starting(cpu: Cpu) -> Context:
    """On a CPU that comes back, before it is online: what Linux prepares for it (CPU_UP_PREPARE)
    in its memory."""
    cpu.hotplug.polling = cpu.hotplug.finished = False
    for index, step in enumerate(UP[cpu.params.cpu_hotplug]):
        if step.side == START:
            yield from _run(cpu, cpu.number, GO_UP, index)
    cpu.hotplug.requests.clear()  # of a way down that was given up
