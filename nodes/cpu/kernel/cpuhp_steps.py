"""The single steps of a CPU's way up and down; who runs which, and when: ``cpuhp_states``.

Each is a function of the CPU that runs it and of the number of the CPU concerned. Those that run
on the CPU itself after ``take_cpu_down`` have interrupts off, or later a local APIC that is off:
nothing comes in, and nothing of theirs may sleep by a timer.
"""

from __future__ import annotations

from errno import EIO, ETIMEDOUT
from typing import TYPE_CHECKING

from nodes.cpu.kernel import timer_shared
from nodes.cpu.kernel.apic import lapic_offline
from nodes.cpu.kernel.irq import cpuhotplug as irq_hotplug
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.ksoftirqd import (
    ksoftirqd_park,
    ksoftirqd_stop,
    ksoftirqd_unpark,
    spawn_ksoftirqd,
)
from nodes.cpu.kernel.net.dst_gc import dst_cpu_dead, dst_cpu_down, dst_cpu_up
from nodes.cpu.kernel.net.softnet_dead import dev_cpu_dead
from nodes.cpu.kernel.printk import KERN_INFO, printk
from nodes.cpu.kernel.rcu import synchronize_rcu
from nodes.cpu.kernel.smp import send_late_wakeups
from nodes.cpu.kernel.smpboot import announce_cpu, native_cpu_up, not_responding
from nodes.cpu.kernel.smpqueue import flush_smp_call_function_queue
from nodes.cpu.kernel.tables import catch_up, publish
from nodes.cpu.kernel.tasklet import takeover_tasklets
from nodes.cpu.kernel.timer import schedule_timeout_uninterruptible
from nodes.cpu.kernel.workqueue.hotplug import workqueue_offline_cpu, workqueue_online_cpu
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.programs.migrate import migrate_tasks, set_active

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Context, Cpu

#: Who gets what a dying CPU leaves.
SURVIVOR = 0

_ONLINE = CPU_SCHEMA.index("online")
_STATE = CPU_SCHEMA.index("cpu_state")
_CALLOUT = CPU_SCHEMA.index("cpu_callout")
_COMMENCED = CPU_SCHEMA.index("cpu_commenced")


# ---------------------------------------------------------------- tasks


def sched_cpu_deactivate(cpu: Cpu, _number: int) -> Context:
    """Nobody new comes here; programs go to the survivor."""
    return migrate_tasks(cpu, SURVIVOR)


def sched_cpu_activate(cpu: Cpu, _number: int) -> None:
    """set_cpu_active: programs may start here again."""
    set_active(cpu, True)


def sched_cpu_wait_empty(cpu: Cpu, _number: int) -> Context:
    """balance_hotplug_wait: until the kernel threads of this CPU sleep or have ended, and RCU has
    called back. ksoftirqd is parked then, or may have work for ever: it is stopped later."""
    while _others_run(cpu) or cpu.rcu.callbacks or _irq_threads_run(cpu):
        yield from schedule_timeout_uninterruptible(cpu, 1)


def _others_run(cpu: Cpu) -> bool:
    return any(task is not cpu.softirq.ksoftirqd for task in cpu.rq.runnable)


def _irq_threads_run(cpu: Cpu) -> bool:
    return any(d.target == cpu.number and d.threads_active for d in cpu.irq.desc.values())


def sched_cpu_dying(cpu: Cpu, _number: int) -> None:
    """The stopper is done: interrupts on again, but none can come. The tick is gone."""
    cpu.timers.tick_running = False
    local_irq_enable(cpu)


# ---------------------------------------------------------------- workqueues and threads


def workqueue_offline(cpu: Cpu, _number: int) -> Context:
    """The pools go to a CPU that stays; what is half done ends here."""
    yield from workqueue_offline_cpu(cpu)


def workqueue_online(cpu: Cpu, _number: int) -> Context:
    """And come back."""
    yield from workqueue_online_cpu(cpu)


def park_threads(cpu: Cpu, _number: int) -> Context:
    """smpboot_park_threads: ksoftirqd."""
    yield from ksoftirqd_park(cpu)


def unpark_threads(cpu: Cpu, _number: int) -> None:
    """smpboot_unpark_threads."""
    ksoftirqd_unpark(cpu)


def stop_ksoftirqd(cpu: Cpu, _number: int) -> Context:
    """kthread_stop: it waits to die, or sleeps."""
    yield from ksoftirqd_stop(cpu)


def start_ksoftirqd(cpu: Cpu, _number: int) -> None:
    """A new one: the last was stopped."""
    if cpu.softirq.ksoftirqd is None:
        spawn_ksoftirqd(cpu)


def watchdog_offline(cpu: Cpu, _number: int) -> None:
    """lockup_detector_offline_cpu."""
    cpu.watchdog.disable()


def watchdog_online(cpu: Cpu, _number: int) -> None:
    """lockup_detector_online_cpu."""
    cpu.watchdog.enable()


# ---------------------------------------------------------------- interrupts, masks, the core


def irq_migrate_all_off(cpu: Cpu, number: int) -> Context:
    """The lines of the dying CPU get a place on the others, or it may not go (-ENOSPC)."""
    return irq_hotplug.irq_migrate_all_off(cpu, number)


def take_cpu_down(cpu: Cpu, _number: int) -> Context:
    """In the stopper, interrupts off: __cpu_disable."""
    local_irq_disable(cpu)
    cpu.online = False
    cpu.words[_ONLINE] = 0
    yield from irq_hotplug.fixup_irqs(cpu)
    local_irq_disable(cpu)
    lapic_offline(cpu)
    cpu.hotplug.polling = True
    cpu.online_cpus = [n for n in cpu.online_cpus if n != cpu.number]


def remove_cpu_from_maps(cpu: Cpu, number: int) -> Context:
    """set_cpu_online(false) for all; when it returns nobody uses the old mask."""
    cpu.words[_CALLOUT] &= ~(1 << number)
    cpu.words[_COMMENCED] &= ~(1 << number)
    cpu.online_cpus = [n for n in cpu.online_cpus if n != number]
    yield from publish(cpu, "online", 0, tuple(cpu.online_cpus))
    yield from synchronize_rcu(cpu)


def smpcfd_dying_cpu(cpu: Cpu, _number: int) -> Context:
    """What was queued until then is done here."""
    return flush_smp_call_function_queue(cpu)


def cpu_die(cpu: Cpu, number: int) -> None:
    """It has answered with its local APIC off: nothing more is to be feared from it."""
    prefix = "" if cpu.params.log_format == "2.6.18" else "smpboot: "
    printk(cpu, f"{prefix}CPU {number} is now offline", KERN_INFO)


def play_dead(cpu: Cpu, _number: int) -> None:
    """When the answer is on its way, the idle task halts."""
    cpu.hotplug.finished = True


def wait_for_death(cpu: Cpu, number: int) -> Context:
    """Until it is halted, so that a STARTUP finds it."""
    theirs = cpu.ram.page(f"cpu{number}", CPU_SCHEMA).words
    end = cpu.now() + cpu.params.cpu_die_timeout_ms * 1_000_000
    while theirs[_STATE]:
        if cpu.now() > end:
            return -ETIMEDOUT
        yield from schedule_timeout_uninterruptible(cpu, 1)


def bringup_cpu(cpu: Cpu, number: int) -> Context:
    """INIT, STARTUP and the handshake, as at boot; then all hear of it."""
    announce_cpu(cpu, number)
    up = yield from native_cpu_up(cpu, number)
    if not up:
        not_responding(cpu, number)
        return -EIO
    cpu.missed.get(number, {}).pop(("online", 0), None)
    yield from catch_up(cpu, number)
    cpu.online_cpus = sorted([*cpu.online_cpus, number])
    yield from publish(cpu, "online", 0, tuple(cpu.online_cpus))
    yield from send_late_wakeups(cpu, number)


# ---------------------------------------------------------------- what it leaves behind


def timers_dead(cpu: Cpu, _number: int) -> Context:
    """timers_dead_cpu. Those that only this CPU knows stay on its wheel until it is back; so do
    hrtimers, which no other CPU knows."""
    yield from timer_shared.timers_dead_cpu(cpu, SURVIVOR)


def tasklets_dead(cpu: Cpu, _number: int) -> Context:
    return takeover_tasklets(cpu, SURVIVOR)


def rcu_dying(cpu: Cpu, _number: int) -> None:
    """rcu_report_dead."""
    cpu.rcu.cpu_dying()


def rcu_dead(cpu: Cpu, _number: int) -> Context:
    return cpu.rcu.cpu_dead()


def net_dead(cpu: Cpu, _number: int) -> Context:
    """dev_cpu_dead: what waits to be sent, poll list and backlog; then this CPU's dst entries."""
    yield from dev_cpu_dead(cpu, SURVIVOR)
    yield from dst_cpu_dead(cpu)


def dst_offline(cpu: Cpu, _number: int) -> Context:
    return dst_cpu_down(cpu)


def dst_online(cpu: Cpu, _number: int) -> Context:
    return dst_cpu_up(cpu)


# ---------------------------------------------------------------- made new for a CPU that is back


def smpcfd_prepare(cpu: Cpu, _number: int) -> Context:
    """What was queued for it all the same while it was away."""
    return flush_smp_call_function_queue(cpu)


def timers_prepare(cpu: Cpu, _number: int) -> None:
    """The tick begins anew with the first task."""
    cpu.timers.tick_running = False


def rcu_prepare(cpu: Cpu, _number: int) -> None:
    """rcutree_prepare_cpu."""
    cpu.rcu.passed = False
    cpu.rcu.nesting = 0
