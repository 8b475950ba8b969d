"""WARN, BUG and the stack in the kernel log, after lib/bug.c, kernel/panic.c and dumpstack.

A call trace is read off the Python frames: what runs now, then the contexts it interrupted. Lines
and addresses are left out, because they would be those of some build; the rest is Linux's text.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.printk import KERN_CRIT, KERN_EMERG, KERN_WARNING, printk
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

TRACE_DEPTH_MAX = 24
#: Code that looks at the kernel from outside: not part of a call trace.
_LOCKS = "nodes.cpu.kernel.locks."
_OUTSIDE = (
    __name__, f"{_LOCKS}lockdep", f"{_LOCKS}lockdep_report", f"{_LOCKS}might_sleep",
)  # fmt: skip

#: Where a walk up the stack ends: what runs the kernel.
_BELOW = ("nodes.cpu.core", "nodes.cpu.node")

_WARNINGS = CPU_SCHEMA.index("warnings")


def suspended(context: Any) -> list[str]:
    """Function names of a context that does not run now, innermost first."""
    names = []
    while inspect.isgenerator(context):
        names.append(context.gi_code.co_name)
        context = context.gi_yieldfrom
    return names[::-1]


def running() -> list[str]:
    """Names of the kernel functions that run now, innermost first."""
    names: list[str] = []
    frame: FrameType | None = inspect.currentframe()
    frame = frame.f_back if frame is not None else None
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module in _BELOW:
            break
        if module not in _OUTSIDE and not module.startswith("bus."):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def call_trace(cpu: Cpu) -> list[list[str]]:
    """The contexts of this CPU from the innermost out, each a list of names, innermost first.

    ``schedule`` runs when the context that called it has yielded: its calls stand below."""
    top: Any = cpu.stack[-1] if cpu.stack else cpu.current.gen
    called = suspended(top) if inspect.isgenerator(top) and not top.gi_running else []
    contexts = [running() + called]
    below: list[Any] = list(cpu.stack[:-1])
    if cpu.stack and cpu.current.gen is not None:
        below.insert(0, cpu.current.gen)
    return contexts + [names for c in reversed(below) if (names := suspended(c))]


def dump_stack(cpu: Cpu, level: int = KERN_WARNING) -> None:
    """``Call Trace:`` with one function a line; ``<IRQ>`` and ``<TASK>`` frame the contexts."""
    contexts = call_trace(cpu)
    release = cpu.params.release
    task = cpu.current
    printk(cpu, f"CPU: {cpu.number} PID: {task.pid} Comm: {task.comm} Not tainted {release}", level)
    printk(cpu, "Call Trace:", level)
    for i, names in enumerate(contexts):
        mark = "TASK" if i == len(contexts) - 1 and task.gen is not None else "IRQ"
        printk(cpu, f" <{mark}>", level)
        for name in names[:TRACE_DEPTH_MAX]:
            printk(cpu, f" {name}", level)
        printk(cpu, f" </{mark}>", level)


def warn(cpu: Cpu, where: str, text: str = "") -> None:
    """WARN: ``where`` is the kernel's file, as in ``kernel/softirq.c``; the caller goes on."""
    cpu.words[_WARNINGS] += 1
    function = running()[0]
    form = cpu.params.warning_text
    framed = form != "bug"  # 2.6.18 has no frame around it
    if framed:
        printk(cpu, "------------[ cut here ]------------", KERN_WARNING)
    if form == "cpu-pid" and text:
        printk(cpu, text, KERN_WARNING)
    task = cpu.current
    line = {
        "bug": f"BUG: warning at {where}/{function}()",
        "at": f"WARNING: at {where} {function}()",
        "cpu-pid": f"WARNING: CPU: {cpu.number} PID: {task.pid} at {where} {function}",
    }[form]
    printk(cpu, line, KERN_WARNING)
    if form != "cpu-pid" and text:
        printk(cpu, text, KERN_WARNING)
    dump_stack(cpu)
    if framed:
        printk(cpu, "---[ end trace 0000000000000000 ]---", KERN_WARNING)


def warn_once(cpu: Cpu, where: str, text: str = "") -> None:
    """WARN_ONCE: as ``warn``, but each place speaks once."""
    place = (where, running()[0])
    if place not in cpu.warned:
        cpu.warned.append(place)
        warn(cpu, where, text)


def panic(cpu: Cpu, reason: str) -> None:
    """The kernel's last words on this CPU; the core halts it."""
    printk(cpu, f"Kernel panic - not syncing: {reason}", KERN_EMERG)


class KernelBugError(Exception):
    """BUG(): the task or interrupt that ran into it ends here."""


def bug(cpu: Cpu, where: str) -> KernelBugError:
    """BUG: logs, and returns what the caller has to raise."""
    printk(cpu, "------------[ cut here ]------------", KERN_CRIT)
    printk(cpu, f"kernel BUG at {where}!", KERN_CRIT)
    dump_stack(cpu, KERN_CRIT)
    return KernelBugError(where)
