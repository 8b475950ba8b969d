"""Interrupts that nobody cared for, and lines that had to be disabled (kernel/irq/spurious.c).

Of each 100000 interrupts of a line more than 99900 unhandled ones disable it (``spurious_window``;
a lab that cannot wait so long sets a smaller one, the share stays). Behaviours:
``spurious_decay`` (a pause of HZ/10 restarts the count), ``spurious_count`` (6.1 counts only from
the first unhandled one on), ``spurious_bogus``, ``spurious_disable`` (may a new handler revive the
line?), ``spurious_poll`` (a timer runs the handlers of disabled lines ten times a second) and
``spurious_threads``, how IRQ_WAKE_THREAD counts:

* *handled*: as IRQ_HANDLED;
* *thread-result*: not at all; the irq thread calls again with its own result;
* *deferred*: the next interrupt looks whether the thread handled something meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq import handle  # they call each other, as in Linux
from nodes.cpu.kernel.irq.chip import irq_disable
from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_IS_POLLED,
    IRQ_NESTED_THREAD,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_PER_CPU,
    IRQF_IRQPOLL,
    IRQF_SHARED,
    IRQF_TIMER_BIT,
    IRQS_PENDING,
    IRQS_POLL_INPROGRESS,
    IRQS_SPURIOUS_DISABLED,
    IrqDesc,
)
from nodes.cpu.kernel.irq.report import report_bad_irq
from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_EMERG, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

UNHANDLED_MAX_PER_MILLE = 999
BOGUS_REPORTS_MAX = 100
SPURIOUS_DEFERRED = 1 << 31
_HIGHEST_GOOD = IRQ_HANDLED | IRQ_WAKE_THREAD


def note_interrupt(cpu: Cpu, desc: IrqDesc, action_ret: int) -> Context:
    """After each run of a line's handlers; it gives way only to look for a misrouted one."""
    params = cpu.params
    if params.noirqdebug == "on" or desc.istate & IRQS_POLL_INPROGRESS:
        return
    if desc.settings & IRQ_IS_POLLED:
        return
    if action_ret & IRQ_WAKE_THREAD:
        judged = _THREADED[params.spurious_threads](desc, action_ret)
        if judged is None:
            return
        action_ret = judged
    if action_ret > _HIGHEST_GOOD:
        _report_bogus(cpu, desc, action_ret)
        if params.spurious_bogus == "reported-only":
            return
        action_ret = IRQ_NONE
    if action_ret == IRQ_NONE:
        _count_unhandled(cpu, desc)
    if params.irqfixup != "off":
        desc.irqs_unhandled -= yield from _fix_up(cpu, desc, action_ret)
    if not desc.irqs_unhandled and params.spurious_count == "from-first-unhandled":
        return
    desc.irq_count += 1
    window = params.spurious_window
    if desc.irq_count < window:
        return
    desc.irq_count = 0
    if desc.irqs_unhandled > window * UNHANDLED_MAX_PER_MILLE // 1000:
        _nobody_cared(cpu, desc, action_ret)
    desc.irqs_unhandled = 0


def _count_unhandled(cpu: Cpu, desc: IrqDesc) -> None:
    now = cpu.jiffies()
    stale = now > desc.last_unhandled + cpu.params.hz // 10
    if stale and cpu.params.spurious_decay == "yes":
        desc.irqs_unhandled = 1
    else:
        desc.irqs_unhandled += 1
    desc.last_unhandled = now


def _report_bogus(cpu: Cpu, desc: IrqDesc, action_ret: int) -> None:
    if cpu.irq.bogus_reports < BOGUS_REPORTS_MAX:
        cpu.irq.bogus_reports += 1
        report_bad_irq(cpu, desc, action_ret)


def _nobody_cared(cpu: Cpu, desc: IrqDesc, action_ret: int) -> None:
    report_bad_irq(cpu, desc, action_ret)
    printk(cpu, f"Disabling IRQ #{desc.irq}", KERN_EMERG)
    if cpu.params.spurious_disable == "for-good":
        desc.depth = 1
    else:
        desc.istate |= IRQS_SPURIOUS_DISABLED
        desc.depth += 1
    irq_disable(cpu, desc)
    if cpu.params.spurious_poll != "never":
        _arm_poll_timer(cpu)


# ---------------------------------------------------------------- what a thread will say


def _as_handled(_desc: IrqDesc, action_ret: int) -> int:
    return IRQ_HANDLED if action_ret == IRQ_WAKE_THREAD else action_ret


def _left_to_thread(_desc: IrqDesc, action_ret: int) -> int | None:
    return None if action_ret == IRQ_WAKE_THREAD else action_ret


def _deferred(desc: IrqDesc, action_ret: int) -> int | None:
    if action_ret != IRQ_WAKE_THREAD:
        desc.threads_handled_last &= ~SPURIOUS_DEFERRED
        return action_ret
    if not desc.threads_handled_last & SPURIOUS_DEFERRED:
        desc.threads_handled_last |= SPURIOUS_DEFERRED
        return None
    handled = desc.threads_handled | SPURIOUS_DEFERRED
    if handled == desc.threads_handled_last:
        return IRQ_NONE
    desc.threads_handled_last = handled
    return IRQ_HANDLED


_THREADED = {"handled": _as_handled, "thread-result": _left_to_thread, "deferred": _deferred}


# ---------------------------------------------------------------- polling


def _arm_poll_timer(cpu: Cpu) -> None:
    timer = cpu.irq.poll_timer
    assert timer is not None
    cpu.timers.mod_timer(timer, cpu.jiffies() + cpu.params.hz // 10)


def poll_spurious_irqs(cpu: Cpu) -> Context:
    """The timer: run the handlers of every line that the detector disabled; again in HZ/10."""
    for irq, desc in sorted(cpu.irq.desc.items()):
        if irq and desc.istate & IRQS_SPURIOUS_DISABLED:
            flags = local_irq_save(cpu)
            yield from try_one_irq(cpu, desc, force=True)
            local_irq_restore(cpu, flags)
    _arm_poll_timer(cpu)


def try_one_irq(cpu: Cpu, desc: IrqDesc, *, force: bool) -> Context:
    """Run a line's handlers without an interrupt; True if one of them handled something."""
    if desc.state & IRQD_PER_CPU or desc.settings & (IRQ_NESTED_THREAD | IRQ_IS_POLLED):
        return False
    if desc.state & IRQD_IRQ_DISABLED and not force:
        return False
    if not desc.actions or desc.actions[0].flags & (IRQF_SHARED | IRQF_TIMER_BIT) != IRQF_SHARED:
        return False
    if cpu.params.spurious_poll == "shared-with-second" and len(desc.actions) == 1:
        return False
    if desc.state & IRQD_IRQ_INPROGRESS:
        desc.istate |= IRQS_PENDING  # whoever runs it now shall look again
        return False
    handled = False
    desc.istate |= IRQS_POLL_INPROGRESS
    while True:
        result = yield from handle.handle_irq_event(cpu, desc)
        handled = handled or result == IRQ_HANDLED
        if not desc.istate & IRQS_PENDING or not desc.actions:
            break
    desc.istate &= ~IRQS_POLL_INPROGRESS
    return handled


def _fix_up(cpu: Cpu, desc: IrqDesc, action_ret: int) -> Context:
    """irqfixup, irqpoll: perhaps another line's device raised this one; 1 if so."""
    if action_ret != IRQ_NONE and not (
        cpu.params.irqfixup == "irqpoll"
        and (desc.irq == 0 or (desc.actions and desc.actions[0].flags & IRQF_IRQPOLL))
    ):
        return 0
    handled = False
    for irq, other in sorted(cpu.irq.desc.items()):
        if irq and other is not desc and (yield from try_one_irq(cpu, other, force=False)):
            handled = True
    return int(handled and action_ret == IRQ_NONE)
