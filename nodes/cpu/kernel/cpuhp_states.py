"""What a CPU goes through on its way up and down, as data; ``cpuhotplug`` walks it.

Three eras (behaviour ``cpu_hotplug``), each with its own names for the steps: *states* (6.1,
include/linux/cpuhotplug.h), walked up, and down in reverse order; *notifiers* (3.10): chains in the
order of their priorities, and among equals of their registration; *kstopmachine* (2.6.18): the
same, without parking and workers that stay.

A step runs on the boot CPU (BOOT), on the CPU itself in a thread (THERE), or, where Linux prepares
a CPU's memory before it starts, on that CPU when it starts (START). Programs leave their CPU while
it still has interrupts, so before Linux's time for it in 3.10 (CPU_DYING) and 2.6.18 (CPU_DEAD);
the threads of 2.6.18's workqueues too, since a work in hand may sleep, and what is queued after
that is taken at CPU_DEAD.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel import cpuhp_steps as do

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Context, Cpu

BOOT, THERE, START = "boot", "there", "start"

#: f(cpu that runs it, number of the CPU concerned): 0, -errno or None, or a context that returns it
StepFunction = Callable[["Cpu", int], "Context | int | None"]


class Step(NamedTuple):
    """``undo`` is for when a later step fails."""

    name: str
    side: str
    run: StepFunction
    undo: StepFunction | None = None


#: take_cpu_down and what of it is made elsewhere: the same in all eras.
_TAKE_DOWN = (
    Step("fixup_irqs", BOOT, do.irq_migrate_all_off),
    Step("take_cpu_down", THERE, do.take_cpu_down),
    Step("remove_cpu_from_maps", BOOT, do.remove_cpu_from_maps),
)
#: Of this kernel alone: each CPU's collector of dst entries.
_DST_DOWN = Step("net/dst", THERE, do.dst_offline, do.dst_online)
_DST_UP = Step("net/dst", THERE, do.dst_online)
_BRINGUP = Step("cpu:bringup", BOOT, do.bringup_cpu)
_PLAY_DEAD = (
    Step("play_dead", THERE, do.play_dead),
    Step("offline", BOOT, do.wait_for_death),
)

DOWN: dict[str, tuple[Step, ...]] = {
    "states": (
        Step("sched:active", THERE, do.sched_cpu_deactivate, do.sched_cpu_activate),
        _DST_DOWN,
        Step("workqueue:online", THERE, do.workqueue_offline, do.workqueue_online),
        Step("lockup_detector:online", THERE, do.watchdog_offline, do.watchdog_online),
        Step("smpboot/threads:online", THERE, do.park_threads, do.unpark_threads),
        Step("sched:waitempty", THERE, do.sched_cpu_wait_empty),
        *_TAKE_DOWN,
        Step("smpcfd:dying", THERE, do.smpcfd_dying_cpu),
        Step("RCU/tree:dying", THERE, do.rcu_dying),
        Step("sched:starting", THERE, do.sched_cpu_dying),
        Step("cpu:teardown", BOOT, do.cpu_die),
        Step("timers:prepare", THERE, do.timers_dead),
        Step("RCU/tree:prepare", THERE, do.rcu_dead),
        Step("net/dev:dead", THERE, do.net_dead),
        Step("softirq:dead", THERE, do.tasklets_dead),
        *_PLAY_DEAD,
    ),
    "notifiers": (
        Step("DOWN_PREPARE workqueue -5", THERE, do.workqueue_offline, do.workqueue_online),
        Step("DOWN_PREPARE sched last", THERE, do.sched_cpu_deactivate, do.sched_cpu_activate),
        _DST_DOWN,
        Step("smpboot_park_threads", THERE, do.park_threads, do.unpark_threads),
        Step("watchdog_park", THERE, do.watchdog_offline, do.watchdog_online),
        Step("DYING sched 10", THERE, do.sched_cpu_wait_empty),
        *_TAKE_DOWN,
        Step("smp_call_function_queue", THERE, do.smpcfd_dying_cpu),
        Step("DYING rcu 0", THERE, do.rcu_dying),
        Step("migration", THERE, do.sched_cpu_dying),
        Step("__cpu_die", BOOT, do.cpu_die),
        Step("DEAD rcu 0", THERE, do.rcu_dead),
        Step("DEAD timers 0", THERE, do.timers_dead),
        Step("DEAD softirq 0", THERE, do.tasklets_dead),
        Step("DEAD net 0", THERE, do.net_dead),
        *_PLAY_DEAD,
    ),
    "kstopmachine": (
        Step("DEAD migration 10", THERE, do.sched_cpu_deactivate, do.sched_cpu_activate),
        _DST_DOWN,
        Step("keventd", THERE, do.workqueue_offline, do.workqueue_online),
        Step("idle", THERE, do.sched_cpu_wait_empty),
        *_TAKE_DOWN,
        Step("call_data", THERE, do.smpcfd_dying_cpu),
        Step("rcu", THERE, do.rcu_dying),
        Step("migration", THERE, do.sched_cpu_dying),
        Step("__cpu_die", BOOT, do.cpu_die),
        Step("DEAD rcu 0", THERE, do.rcu_dead),
        Step("DEAD timers 0", THERE, do.timers_dead),
        Step("DEAD softirq 0", THERE, do.stop_ksoftirqd),
        Step("DEAD tasklets 0", THERE, do.tasklets_dead),
        Step("DEAD softlockup 0", THERE, do.watchdog_offline),
        Step("DEAD workqueue 0", THERE, do.workqueue_offline),
        Step("DEAD net 0", THERE, do.net_dead),
        *_PLAY_DEAD,
    ),
}

_PREPARE = (
    Step("smpcfd:prepare", START, do.smpcfd_prepare),
    Step("timers:prepare", START, do.timers_prepare),
    Step("RCU/tree:prepare", START, do.rcu_prepare),
)

UP: dict[str, tuple[Step, ...]] = {
    "states": (
        *_PREPARE,
        _BRINGUP,
        Step("smpboot/threads:online", THERE, do.unpark_threads),
        Step("lockup_detector:online", THERE, do.watchdog_online),
        Step("workqueue:online", THERE, do.workqueue_online),
        _DST_UP,
        Step("sched:active", THERE, do.sched_cpu_activate),
    ),
    "notifiers": (
        *_PREPARE,
        _BRINGUP,
        Step("smpboot_unpark_threads", THERE, do.unpark_threads),
        Step("watchdog_unpark", THERE, do.watchdog_online),
        Step("ONLINE sched first", THERE, do.sched_cpu_activate),
        Step("ONLINE workqueue 5", THERE, do.workqueue_online),
        _DST_UP,
    ),
    "kstopmachine": (
        *_PREPARE,
        _BRINGUP,
        Step("ONLINE migration 10", THERE, do.sched_cpu_activate),
        Step("ONLINE softirq 0", THERE, do.start_ksoftirqd),
        Step("ONLINE softlockup 0", THERE, do.watchdog_online),
        Step("ONLINE workqueue 0", THERE, do.workqueue_online),
        _DST_UP,
    ),
}
