"""struct workqueue_struct: alloc_workqueue, its flags, and the workqueues that every kernel has.

A workqueue is known by its number on every CPU; the one that allocates it publishes name, flags and
max_active, and each CPU makes its pool_workqueues: for the pool of its own that it uses (bound or
unbound), or, if the workqueue is ordered, on the boot CPU's unbound pool alone. Those of an offline
CPU are with whoever adopted its pools.

Left out: SYSFS (nothing under /sys/bus/workqueue); workqueue_attrs other than nice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import warn
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_WARNING, printk
from nodes.cpu.kernel.sched import wake_up_process
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.kernel.workqueue.pool import PoolWorkqueue, pool_id, pwq_activate_first_inactive

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.worker import Worker

WQ_NON_REENTRANT, WQ_UNBOUND, WQ_FREEZABLE, WQ_MEM_RECLAIM = 1 << 0, 1 << 1, 1 << 2, 1 << 3
WQ_HIGHPRI, WQ_CPU_INTENSIVE, WQ_SYSFS, WQ_POWER_EFFICIENT = 1 << 4, 1 << 5, 1 << 6, 1 << 7
#: In Linux with two underscores in front: __WQ_DRAINING and so on.
WQ_DRAINING, WQ_ORDERED, WQ_LEGACY, WQ_ORDERED_EXPLICIT = 1 << 16, 1 << 17, 1 << 18, 1 << 19

WQ_MAX_ACTIVE, WQ_MAX_UNBOUND_PER_CPU = 512, 4
WQ_DFL_ACTIVE = WQ_MAX_ACTIVE // 2
WQ_NAME_LEN = 24

#: The boot CPU's pools never move: the default pool_workqueue of an ordered workqueue is there.
_DEFAULT_NODE = 0

#: system_*_wq of workqueue.h: attribute, name, flags, max_active; the number follows from 1 on.
SYSTEM_WORKQUEUES = (
    ("system_wq", "events", 0, 0),
    ("system_highpri_wq", "events_highpri", WQ_HIGHPRI, 0),
    ("system_long_wq", "events_long", 0, 0),
    ("system_unbound_wq", "events_unbound", WQ_UNBOUND, WQ_MAX_ACTIVE),
    ("system_freezable_wq", "events_freezable", WQ_FREEZABLE, 0),
    ("system_power_efficient_wq", "events_power_efficient", WQ_POWER_EFFICIENT, 0),
    ("system_freezable_power_efficient_wq", "events_freezable_power_efficient",
     WQ_FREEZABLE | WQ_POWER_EFFICIENT, 0),
)  # fmt: skip
#: The last two came with 3.11: who asks for one on 3.10 gets the one without power_efficient.
_BEFORE_POWER_EFFICIENT = {
    "system_power_efficient_wq": "system_wq",
    "system_freezable_power_efficient_wq": "system_freezable_wq",
}


class Workqueue:
    """struct workqueue_struct, as this CPU has it."""

    def __init__(self, number: int, name: str, flags: int, max_active: int) -> None:
        self.id = number
        self.name = name[: WQ_NAME_LEN - 1]
        self.flags = flags
        self.saved_max_active = max_active
        self.pwqs: dict[int, PoolWorkqueue] = {}  # by pool, those that are hosted here
        self.cpu_intensive = bool(flags & WQ_CPU_INTENSIVE and not flags & WQ_UNBOUND)
        # flush_workqueue
        self.work_color = self.flush_color = 0
        self.nr_pwqs_to_flush = 0
        self.first_flusher: Any = None
        self.flusher_queue: list[Any] = []
        self.flusher_overflow: list[Any] = []
        # rescuer, drain
        self.maydays: list[PoolWorkqueue] = []
        self.rescuer: Worker | None = None
        self.rescuer_end = 0  # completion of who ends it
        self.nr_drainers = 0

    def pool_for(self, cpus: int, node: int) -> int:
        """Number of the pool that works for CPU ``node`` go to."""
        unbound = bool(self.flags & WQ_UNBOUND)
        if self.flags & WQ_ORDERED:
            node = _DEFAULT_NODE
        return pool_id(node, highpri=bool(self.flags & WQ_HIGHPRI), unbound=unbound, cpus=cpus)


# -- making one


def alloc_workqueue(cpu: Cpu, name: str, flags: int = 0, max_active: int = 0) -> Context:
    """A new workqueue, known to every online CPU when this returns."""
    if flags & WQ_POWER_EFFICIENT and cpu.params.wq_power_efficient == "on":
        flags |= WQ_UNBOUND
    if flags & WQ_UNBOUND and max_active == 1 and cpu.params.wq_implicit_ordered == "yes":
        flags |= WQ_ORDERED
    max_active = _wq_clamp_max_active(cpu, max_active or WQ_DFL_ACTIVE, flags, name)
    number = cpu.ram.atomics.add(words.LAST_WORKQUEUE, 1) + len(SYSTEM_WORKQUEUES)
    yield from publish(cpu, "workqueue", number, (name, flags, max_active))
    return cpu.wq.workqueues[number]


def alloc_ordered_workqueue(cpu: Cpu, name: str, flags: int = 0) -> Context:
    """One work at a time in the whole machine, in the order of queueing."""
    explicit = WQ_ORDERED_EXPLICIT if cpu.params.wq_implicit_ordered == "yes" else 0
    flags |= WQ_UNBOUND | WQ_ORDERED | explicit
    return (yield from alloc_workqueue(cpu, name, flags, 1))


def create_workqueue(cpu: Cpu, name: str) -> Context:
    flags = WQ_MEM_RECLAIM | _legacy(cpu)
    return (yield from alloc_workqueue(cpu, name, flags, 1))


def create_freezable_workqueue(cpu: Cpu, name: str) -> Context:
    flags = WQ_FREEZABLE | WQ_UNBOUND | WQ_MEM_RECLAIM | _legacy(cpu)
    return (yield from alloc_workqueue(cpu, name, flags, 1))


def create_singlethread_workqueue(cpu: Cpu, name: str) -> Context:
    return (yield from alloc_ordered_workqueue(cpu, name, WQ_MEM_RECLAIM | _legacy(cpu)))


def _legacy(cpu: Cpu) -> int:
    return WQ_LEGACY if cpu.params.wq_implicit_ordered == "yes" else 0


def _wq_clamp_max_active(cpu: Cpu, max_active: int, flags: int, name: str) -> int:
    limit = WQ_MAX_ACTIVE
    if flags & WQ_UNBOUND:
        limit = max(limit, WQ_MAX_UNBOUND_PER_CPU * cpu.machine.cpus)
    if not 1 <= max_active <= limit:
        text = f"workqueue: max_active {max_active} requested for {name} is out of range"
        printk(cpu, f"{text}, clamping between 1 and {limit}", KERN_WARNING)
    return min(max(1, max_active), limit)


@replica("workqueue")
def apply_workqueue(cpu: Cpu, number: int, value: tuple[str, int, int] | None) -> None:
    """A workqueue came, or (None) was destroyed."""
    if value is None:
        _forget(cpu, number)
    elif number not in cpu.wq.workqueues:
        wq = cpu.wq.workqueues[number] = Workqueue(number, *value)
        link_pwqs(cpu, wq)
        cpu.wq.start_rescuer(wq)
        cpu.wq.unpark()


def _forget(cpu: Cpu, number: int) -> None:
    """It was destroyed; if this CPU was offline then, its threads of it are here still."""
    wq = cpu.wq.workqueues.pop(number, None)
    if wq is not None and wq.rescuer is not None and wq.rescuer.task is not None:
        wq.rescuer.task.should_stop = True
        wake_up_process(cpu, wq.rescuer.task)
    if cpu.wq.keventd is not None:
        cpu.wq.keventd.cwqs.pop(number, None)


def link_pwqs(cpu: Cpu, wq: Workqueue) -> None:
    """A pool_workqueue for each pool hosted here that this workqueue uses."""
    if cpu.wq.keventd is not None:
        cpu.wq.keventd.create(cpu, wq, single=bool(wq.flags & WQ_ORDERED))
        return
    cpus = cpu.machine.cpus
    for pool in cpu.wq.pools.values():
        if pool.id not in wq.pwqs and wq.pool_for(cpus, pool.node) == pool.id:
            pwq = wq.pwqs[pool.id] = PoolWorkqueue(pool, wq)
            pwq_adjust_max_active(cpu, pwq)


def system_workqueues(cpu: Cpu) -> None:
    """workqueue_init_early: the same numbers on every CPU."""
    made: dict[str, Workqueue] = {}
    for number, (attribute, name, flags, max_active) in enumerate(SYSTEM_WORKQUEUES, 1):
        if not cpu.params.system_workqueues >= number:
            made[attribute] = made[_BEFORE_POWER_EFFICIENT.get(attribute, "system_wq")]
        else:
            unbound = flags & WQ_POWER_EFFICIENT and cpu.params.wq_power_efficient == "on"
            wq = Workqueue(
                number, name, flags | (WQ_UNBOUND if unbound else 0), max_active or WQ_DFL_ACTIVE
            )
            made[attribute] = cpu.wq.workqueues[number] = wq
            link_pwqs(cpu, wq)
        setattr(cpu.wq, attribute, made[attribute])


# -- max_active


def workqueue_set_max_active(cpu: Cpu, wq: Workqueue, max_active: int) -> Context:
    """Not for ordered ones. Works that wait for room start at once."""
    if wq.flags & WQ_ORDERED:
        warn(cpu, "kernel/workqueue.c")
        return
    max_active = _wq_clamp_max_active(cpu, max_active, wq.flags, wq.name)
    yield from publish(cpu, "max_active", wq.id, max_active)


@replica("max_active")
def _apply_max_active(cpu: Cpu, number: int, max_active: int) -> None:
    wq = cpu.wq.workqueues.get(number)
    if wq is None:
        return
    wq.saved_max_active = max_active
    for pwq in wq.pwqs.values():
        pwq_adjust_max_active(cpu, pwq)


def pwq_adjust_max_active(cpu: Cpu, pwq: PoolWorkqueue) -> None:
    """As the workqueue says, or 0 while it is frozen."""
    frozen = pwq.wq.flags & WQ_FREEZABLE and cpu.wq.freezing
    pwq.max_active = 0 if frozen else pwq.wq.saved_max_active
    while pwq.inactive_works and pwq.nr_active < pwq.max_active:
        pwq_activate_first_inactive(cpu, pwq)
    cpu.wq.kick(pwq.pool)
