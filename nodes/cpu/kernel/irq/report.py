"""What the kernel prints about a line and its handlers (kernel/irq/{debug.h,spurious.c}).

Handlers are Python functions, so their addresses are made from their names: the same in each run,
and as meaningless to a reader as hashed or real ones.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.irq.desc import Handler, IrqDesc
from nodes.cpu.kernel.printk import KERN_CRIT, KERN_ERR, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_HIGHEST_GOOD = 3  # IRQ_HANDLED | IRQ_WAKE_THREAD


def function_name(handler: Handler) -> str:
    """The symbol of a handler."""
    return str(getattr(handler, "__name__", type(handler).__name__))


def _symbol(cpu: Cpu, handler: Handler) -> str:
    name = function_name(handler)
    address = zlib.crc32(name.encode())
    if cpu.params.log_format == "2.6.18":
        return f"[<ffffffff{address:08x}>] ({name}+0x0/0x100)"
    if cpu.params.log_format == "3.10":
        return f"[<ffffffff{address:08x}>] {name}"
    return f"[<{address:016x}>] {name}"


def report_bad_irq(cpu: Cpu, desc: IrqDesc, action_ret: int) -> None:
    """__report_bad_irq: what happened, the stack, and who should have cared."""
    if action_ret > _HIGHEST_GOOD:
        printk(cpu, f"irq event {desc.irq}: bogus return value {action_ret:x}", KERN_ERR)
    else:
        text = f'irq {desc.irq}: nobody cared (try booting with the "irqpoll" option)'
        printk(cpu, text, KERN_ERR)
    dump_stack(cpu, KERN_ERR)
    printk(cpu, "handlers:", KERN_ERR)
    for action in desc.actions:
        line = _symbol(cpu, action.handler)
        if action.thread_fn is not None:
            line += f" threaded {_symbol(cpu, action.thread_fn)}"
        printk(cpu, line, KERN_ERR)


def print_irq_desc(cpu: Cpu, desc: IrqDesc) -> None:
    """What is known of a line that should not have delivered."""
    count, unhandled = desc.irq_count, desc.irqs_unhandled
    lines = [
        f"irq {desc.irq}, depth: {desc.depth}, count: {count}, unhandled: {unhandled}",
        f"->handle_irq():  {_symbol(cpu, desc.handle_irq)}",  # type: ignore[arg-type]
        f"->irq_data.chip(): {desc.chip.name}",
    ]
    lines += [f"->action(): {_symbol(cpu, action.handler)}" for action in desc.actions]
    for line in lines:
        printk(cpu, line, KERN_CRIT)
