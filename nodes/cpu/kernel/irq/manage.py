"""request_irq, free_irq, enable, disable, synchronize (kernel/irq/manage.c).

All of it is called on the CPU that the line is routed to: its flow state lives there. A replica of
the descriptor on another CPU only gets the action's name (``setup_irq`` starts nothing up there).

Behaviours: ``request_checks``, ``irq_sharing``, ``irq_threads``, ``free_irq_log``,
``spurious_reset``, ``enable_irq_starts``. The kernel's memory never runs out here, so ENOMEM is
not returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.bug import dump_stack, warn
from nodes.cpu.kernel.irq.chip import irq_disable, irq_enable, irq_shutdown, irq_startup
from nodes.cpu.kernel.irq.desc import (
    IRQ_LEVEL,
    IRQ_NESTED_THREAD,
    IRQ_NOAUTOEN,
    IRQ_NOPROBE,
    IRQ_NOREQUEST,
    IRQ_NOTHREAD,
    IRQ_PER_CPU_DEVID,
    IRQCHIP_ONESHOT_SAFE,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_LEVEL,
    IRQD_PER_CPU,
    IRQD_TRIGGER_MASK,
    IRQF_COND_SUSPEND,
    IRQF_NO_AUTOEN,
    IRQF_NO_SUSPEND,
    IRQF_ONESHOT,
    IRQF_PERCPU,
    IRQF_PROBE_SHARED,
    IRQF_SHARED,
    IRQF_TRIGGER_HIGH,
    IRQF_TRIGGER_LOW,
    IRQF_TRIGGER_MASK,
    IRQS_AUTODETECT,
    IRQS_ONESHOT,
    IRQS_SPURIOUS_DISABLED,
    IRQS_SUSPENDED,
    IRQS_WAITING,
    Handler,
    IrqAction,
    IrqDesc,
    IrqTable,
    no_irq_chip,
)
from nodes.cpu.kernel.irq.resend import check_irq_resend, resend_irqs
from nodes.cpu.kernel.irq.spurious import poll_spurious_irqs
from nodes.cpu.kernel.irq.thread import (
    irq_default_primary_handler,
    irq_nested_primary_handler,
    irq_setup_forced_threading,
    setup_irq_thread,
    wake_up_irq_thread,
)
from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Pause
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.sched import TASK_UNINTERRUPTIBLE, kthread_stop
from nodes.cpu.kernel.tasklet import tasklet_init
from nodes.cpu.kernel.timer import Timer

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ENODEV, EBUSY, EINVAL, ENOSYS, ENOTCONN = 19, 16, 22, 38, 107
IRQ_NOTCONNECTED = 1 << 31
SPIN_NS = 10_000
_MANAGE = "kernel/irq/manage.c"
_ALL_THREADS = (1 << 64) - 1


def early_irq_init(cpu: Cpu) -> None:
    """The interrupt layer's variables of this CPU."""
    table = cpu.irq = IrqTable()
    params = cpu.params
    table.count_every = params.spurious_count == "every" or params.irqfixup != "off"
    # lockdep could not tell nested handlers of one class apart: with it they do not nest
    nest = params.handlers_irqs_on != "never" and params.prove_locking == "off"
    table.handlers_irqs_on = nest
    table.handlers_watched = params.handlers_irqs_on == "never"
    table.poll_timer = Timer(poll_spurious_irqs)
    table.resend_tasklet = tasklet_init(cpu, resend_irqs)


# ---------------------------------------------------------------- request


def request_irq(
    cpu: Cpu, irq: int, handler: Handler | None, flags: int, name: str, dev_id: Any
) -> int:
    """0 or a negative errno."""
    return request_threaded_irq(cpu, irq, handler, None, flags, name, dev_id)


def request_threaded_irq(
    cpu: Cpu,
    irq: int,
    handler: Handler | None,
    thread_fn: Handler | None,
    flags: int,
    name: str,
    dev_id: Any,
) -> int:
    """A line's user: ``handler`` runs in the interrupt, ``thread_fn`` in a task; 0 or -errno."""
    every = cpu.params.request_checks == "all"
    if every and irq == IRQ_NOTCONNECTED:
        return -ENOTCONN
    if flags & IRQF_SHARED and dev_id is None:
        return -EINVAL
    if every and _contradictory(flags):
        return -EINVAL
    desc = cpu.irq.desc.get(irq)
    if desc is None or desc.settings & (IRQ_NOREQUEST | IRQ_PER_CPU_DEVID):
        return -EINVAL
    if thread_fn is not None and cpu.params.irq_threads == "none":
        return -ENOSYS  # this kernel has no such call
    if handler is None:
        if thread_fn is None:
            return -EINVAL
        handler = irq_default_primary_handler
    return setup_irq(cpu, desc, IrqAction(handler, name, dev_id, flags, thread_fn))


def _contradictory(flags: int) -> bool:
    return bool(
        (flags & IRQF_SHARED and flags & IRQF_NO_AUTOEN)
        or (flags & IRQF_COND_SUSPEND and not flags & IRQF_SHARED)
        or (flags & IRQF_NO_SUSPEND and flags & IRQF_COND_SUSPEND)
    )


def setup_irq(cpu: Cpu, desc: IrqDesc, new: IrqAction) -> int:
    """__setup_irq: check against those who are there, append, start the line up."""
    chip = desc.chip
    if chip is no_irq_chip:
        return -ENOSYS
    nested = bool(desc.settings & IRQ_NESTED_THREAD)
    if nested:
        if new.thread_fn is None:
            return -EINVAL
        new.handler = irq_nested_primary_handler
    elif not desc.settings & IRQ_NOTHREAD:
        irq_setup_forced_threading(cpu, new)
    if chip.flags & IRQCHIP_ONESHOT_SAFE:
        new.flags &= ~IRQF_ONESHOT
    shared = bool(desc.actions)
    if shared and not _may_share(cpu, desc, new):
        return -EBUSY
    error = _take_thread_mask(cpu, desc, new)
    if error:
        return error
    at_home = desc.target == cpu.number
    if not shared:
        error = _first_user(cpu, desc, new, at_home)
        if error:
            return error
    desc.actions = [*desc.actions, new]
    if cpu.params.spurious_reset == "on-request":
        desc.irq_count = desc.irqs_unhandled = 0
    if not shared:
        _start(cpu, desc, new, at_home)
    elif desc.istate & IRQS_SPURIOUS_DISABLED:
        desc.istate &= ~IRQS_SPURIOUS_DISABLED
        enable(cpu, desc)
    if at_home and not nested:
        for action, second in ((new, False), (new.secondary, True)):
            if action is not None and action.thread_fn is not None:
                setup_irq_thread(cpu, desc, action, second)
                wake_up_irq_thread(cpu, action)
    return 0


def _may_share(cpu: Cpu, desc: IrqDesc, new: IrqAction) -> bool:
    """All users of a line must agree on how it works."""
    old, rule = desc.actions[0], cpu.params.irq_sharing
    trigger = old.flags & IRQF_TRIGGER_MASK
    if rule == "line-trigger":
        trigger = desc.state & IRQD_TRIGGER_MASK or trigger
        if not new.flags & IRQF_TRIGGER_MASK:
            new.flags |= trigger
    same = IRQF_ONESHOT | IRQF_PERCPU if rule != "trigger" else 0
    if (
        old.flags & new.flags & IRQF_SHARED
        and trigger == new.flags & IRQF_TRIGGER_MASK
        and not (old.flags ^ new.flags) & same
    ):
        return True
    if not new.flags & IRQF_PROBE_SHARED:
        _log_mismatch(cpu, desc, old, new)
    return False


def _log_mismatch(cpu: Cpu, desc: IrqDesc, old: IrqAction, new: IrqAction) -> None:
    if cpu.params.irq_sharing == "trigger":
        printk(cpu, f"IRQ handler type mismatch for IRQ {desc.irq}", KERN_ERR)
        dump_stack(cpu, KERN_ERR)
        return
    users = f"{new.flags:08x} ({new.name}) vs. {old.flags:08x} ({old.name})"
    printk(cpu, f"genirq: Flags mismatch irq {desc.irq}. {users}", KERN_ERR)


def _take_thread_mask(cpu: Cpu, desc: IrqDesc, new: IrqAction) -> int:
    """A bit of threads_oneshot for each ONESHOT user."""
    if new.flags & IRQF_ONESHOT:
        taken = 0
        for action in desc.actions:
            taken |= action.thread_mask
        if taken == _ALL_THREADS:
            return -EBUSY
        new.thread_mask = ~taken & (taken + 1)
    elif new.handler is irq_default_primary_handler and not desc.chip.flags & IRQCHIP_ONESHOT_SAFE:
        where = f"{new.name} (irq {desc.irq})"
        if cpu.params.log_format != "6.1":
            where = f"irq {desc.irq}"
        text = f"genirq: Threaded irq requested with handler=NULL and !ONESHOT for {where}"
        printk(cpu, text, KERN_ERR)
        return -EINVAL
    return 0


def _first_user(cpu: Cpu, desc: IrqDesc, new: IrqAction, at_home: bool) -> int:
    """Trigger type and states of a line that had no action; 0 or -errno."""
    chip = desc.chip
    trigger = new.flags & IRQF_TRIGGER_MASK
    if trigger and at_home:
        error = chip.irq_set_type(cpu, desc, trigger) if chip.irq_set_type is not None else 0
        if error:
            return error
        irqd_set_trigger(desc, trigger)
    if chip.irq_activate is not None and at_home:
        error = chip.irq_activate(cpu, desc)
        if error:
            return error
    desc.istate &= ~(IRQS_AUTODETECT | IRQS_SPURIOUS_DISABLED | IRQS_ONESHOT | IRQS_WAITING)
    desc.state &= ~IRQD_IRQ_INPROGRESS
    if new.flags & IRQF_PERCPU:
        desc.state |= IRQD_PER_CPU
    if new.flags & IRQF_ONESHOT:
        desc.istate |= IRQS_ONESHOT
    return 0


def irqd_set_trigger(desc: IrqDesc, trigger: int) -> None:
    """The line's type is known: edge or level."""
    desc.state = desc.state & ~(IRQD_TRIGGER_MASK | IRQD_LEVEL) | trigger
    desc.settings &= ~IRQ_LEVEL
    if trigger & (IRQF_TRIGGER_HIGH | IRQF_TRIGGER_LOW):
        desc.state |= IRQD_LEVEL
        desc.settings |= IRQ_LEVEL


def _start(cpu: Cpu, desc: IrqDesc, new: IrqAction, at_home: bool) -> None:
    if desc.settings & IRQ_NOAUTOEN or new.flags & IRQF_NO_AUTOEN:
        desc.depth = 1
    elif at_home:
        irq_startup(cpu, desc)
    else:
        desc.depth = 0
        desc.state &= ~IRQD_IRQ_DISABLED


# ---------------------------------------------------------------- free


def remove_action(cpu: Cpu, desc: IrqDesc, dev_id: Any) -> IrqAction | None:
    """Unlink the first action with this dev_id; the last one shuts the line down."""
    for action in desc.actions:
        if action.dev_id is dev_id:
            break
    else:
        text = f"Trying to free already-free IRQ {desc.irq}"
        if cpu.params.free_irq_log == "line":
            printk(cpu, text, KERN_ERR)
        else:
            warn(cpu, _MANAGE, text)
        return None
    desc.actions = [other for other in desc.actions if other is not action]
    if not desc.actions and desc.target == cpu.number:
        irq_shutdown(cpu, desc)
    return action


def free_irq(cpu: Cpu, irq: int, dev_id: Any) -> Context:
    """Remove a user and wait until nothing of it runs; returns its name, None if it was none."""
    if cpu.in_interrupt():
        warn(cpu, _MANAGE, f"Trying to free IRQ {irq} from IRQ context!")
    desc = cpu.irq.desc.get(irq)
    if desc is None:
        return None
    action = remove_action(cpu, desc, dev_id)
    if action is None:
        return None
    yield from synchronize_irq(cpu, irq)
    if cpu.params.debug_shirq == "on" and action.flags & IRQF_SHARED:
        yield from _call_once_more(cpu, irq, action)
    for part in (action, action.secondary):
        if part is not None and part.thread is not None:
            yield from kthread_stop(cpu, part.thread)
    return action.name


def _call_once_more(cpu: Cpu, irq: int, action: IrqAction) -> Context:
    """CONFIG_DEBUG_SHIRQ: an interrupt of another user may still come; is the driver ready?"""
    flags = local_irq_save(cpu)
    returned = action.handler(irq, action.dev_id)
    if not isinstance(returned, int):
        yield from returned
    local_irq_restore(cpu, flags)


# ---------------------------------------------------------------- disable, enable, synchronize


def disable(cpu: Cpu, desc: IrqDesc) -> None:
    """__disable_irq."""
    desc.depth += 1
    if desc.depth == 1:
        irq_disable(cpu, desc)


def enable(cpu: Cpu, desc: IrqDesc) -> None:
    """__enable_irq."""
    suspended = desc.depth == 1 and desc.istate & IRQS_SUSPENDED
    if desc.depth == 0 or suspended:
        warn(cpu, _MANAGE, f"Unbalanced enable for IRQ {desc.irq}")
        return
    if desc.depth > 1:
        desc.depth -= 1
        return
    desc.settings |= IRQ_NOPROBE
    if cpu.params.enable_irq_starts == "startup":
        irq_startup(cpu, desc)
        return
    irq_enable(cpu, desc)
    check_irq_resend(cpu, desc)
    desc.depth = 0


def disable_irq_nosync(cpu: Cpu, irq: int) -> None:
    """No new handler run begins; one that runs goes on. From any context; an interrupt that does
    not exist is not worth a word to it, here and below."""
    desc = _local(cpu, irq)
    if desc is not None:
        disable(cpu, desc)


def disable_irq(cpu: Cpu, irq: int) -> Context:
    """As above, and wait for a run to end: deadlocks if that run is the caller."""
    disable_irq_nosync(cpu, irq)
    yield from synchronize_irq(cpu, irq)


def enable_irq(cpu: Cpu, irq: int) -> None:
    """Undo one disable; the last one sends again what came meanwhile."""
    desc = _local(cpu, irq)
    if desc is not None:
        enable(cpu, desc)


def synchronize_hardirq(cpu: Cpu, irq: int) -> Context:
    """Wait until no handler of the line runs; on another CPU's line nothing runs here."""
    desc = cpu.irq.desc.get(irq)
    while desc is not None and desc.state & IRQD_IRQ_INPROGRESS:
        yield Pause(cpu.now() + SPIN_NS)


def synchronize_irq(cpu: Cpu, irq: int) -> Context:
    """Wait for handlers (busily), then for woken threads (asleep)."""
    yield from synchronize_hardirq(cpu, irq)
    desc = cpu.irq.desc.get(irq)
    while desc is not None and desc.threads_active:
        cpu.current.state = TASK_UNINTERRUPTIBLE
        desc.wait_for_threads.append(cpu.current)
        yield SCHEDULE


def _local(cpu: Cpu, irq: int) -> IrqDesc | None:
    desc = cpu.irq.desc.get(irq)
    assert desc is None or desc.target == cpu.number, f"irq {irq} is routed to CPU {desc.target}"
    return desc
