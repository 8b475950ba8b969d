"""Two devices on one level line, and a driver that does not know its own interrupt.

Device A raises the line; the handler of its driver looks at the wrong bit, says IRQ_NONE and leaves
the device as it is. The line stands, so the interrupt comes again and again, until the spurious
detector disables the line. Device B and its driver have no fault; they are on the same line. What
B's interrupts cost is measured four times: before, while the line is disabled, after A is switched
off and a third driver asks for the line, and after all drivers let it go and ask anew::

    shared_irq: window=100000 storm=100000 disabled=yes calm=5 dead=4 of=50 third=5 reload=5
    revived=yes calm_wait_us=1 dead_wait_us=99880

``dead=4 of=50``: of 50 events in B 4 were handled (while one waits, the next ones add nothing);
``_wait_us``: the longest time from an event in B to its handler, of those that were handled.
``busy=N``: B has an interrupt of its own after every N-th of A's storm. ``gap_ms=N``: A does
not hold the line, but gives a stray interrupt every N ms; then B is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IRQ_NONE, IRQD_IRQ_DISABLED, IRQF_SHARED
from nodes.cpu.kernel.irq.manage import free_irq, request_irq
from nodes.cpu.kernel.irq.sim import (
    irq_sim_assert,
    irq_sim_create,
    irq_sim_deassert,
    irq_sim_remove,
)
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "shared_irq"
IRQ = 250
MS = 1_000_000
PERIOD_MS = 10  # between two events in B
SHORT = 5  # events
#: Longest storm, and how many verdicts it may take.
PATIENCE_NS, WINDOWS_MAX = 60_000 * MS, 3


class Device:
    """A device with one status bit; while it is set, the device pulls the line."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.status = False
        self.handled = 0
        self.since_ns = 0  # how long the status bit has been set
        self.longest_ns = 0

    def ring(self, cpu: Cpu) -> None:
        """Something happened in the device; still waiting for the handler, it says nothing new."""
        if not self.status:
            self.since_ns = cpu.now()
        self.set(cpu, True)

    def set(self, cpu: Cpu, status: bool) -> None:
        self.status = status
        self.wire.settle(cpu)


class Wire:
    """The line: up while one of the devices pulls it."""

    def __init__(self) -> None:
        self.a, self.b = Device(self), Device(self)

    def settle(self, cpu: Cpu) -> None:
        (irq_sim_assert if self.a.status or self.b.status else irq_sim_deassert)(cpu, IRQ)


class Drivers:
    """The handlers of A (with its bug) and of B (as it should be)."""

    def __init__(self, cpu: Cpu, wire: Wire, busy: int, stray: bool) -> None:
        self.cpu, self.wire, self.busy, self.stray = cpu, wire, busy, stray
        self.seen = 0  # interrupts of A's storm

    def lab_a_interrupt(self, _irq: int, _dev_id: object) -> int:
        a = self.wire.a
        if a.status:  # the driver looks at another bit, and does not see this
            self.seen += 1
            if self.stray:
                a.set(self.cpu, False)
            elif self.busy and not self.seen % self.busy:
                self.wire.b.ring(self.cpu)
        return IRQ_NONE

    def lab_b_interrupt(self, _irq: int, _dev_id: object) -> int:
        b = self.wire.b
        if not b.status:
            return IRQ_NONE
        b.handled += 1
        b.longest_ns = max(b.longest_ns, self.cpu.now() - b.since_ns)
        b.set(self.cpu, False)
        return IRQ_HANDLED

    def lab_c_interrupt(self, _irq: int, _dev_id: object) -> int:
        return IRQ_NONE


@module(
    NAME,
    params={
        "busy": (0, "B has an interrupt after every so many of the storm"),
        "gap_ms": (0, "A gives one stray interrupt in that time instead of holding the line"),
        "dead_ms": (500, "how long to look at the disabled line"),
    },
)
def init(cpu: Cpu, params: Values) -> Context:
    """Two devices on one level line, one driver does not know its interrupt."""
    window = cpu.params.spurious_window
    desc = irq_sim_create(cpu, IRQ, "fasteoi")
    wire = Wire()
    drivers = Drivers(cpu, wire, params["busy"], params["gap_ms"] > 0)
    users = {"lab_a": drivers.lab_a_interrupt, "lab_b": drivers.lab_b_interrupt}
    for name, handler in users.items():
        request_irq(cpu, IRQ, handler, IRQF_SHARED, name, name)
    printk(cpu, f"{NAME}: irq {IRQ}: lab_a and lab_b share it; verdict after {window} interrupts")
    calm = yield from _look(cpu, wire, SHORT)

    printk(cpu, f"{NAME}: device A pulls the line, its handler says IRQ_NONE")
    yield from _storm(cpu, drivers, window, params["gap_ms"])
    storm, disabled = drivers.seen, bool(desc.state & IRQD_IRQ_DISABLED)
    printk(cpu, f"{NAME}: after {storm} interrupts of A the line is {_state(disabled)}")
    rounds = params["dead_ms"] // PERIOD_MS
    dead = yield from _look(cpu, wire, rounds)
    wait_us = dead[1]
    printk(cpu, f"{NAME}: {dead[0]} of {rounds} events in B handled, after up to {wait_us} us")

    wire.a.set(cpu, False)
    yield from free_irq(cpu, IRQ, "lab_a")
    request_irq(cpu, IRQ, drivers.lab_c_interrupt, IRQF_SHARED, "lab_c", "lab_c")
    still = bool(desc.state & IRQD_IRQ_DISABLED)
    printk(cpu, f"{NAME}: A is off, its driver gone; lab_c asks for the line: {_state(still)}")
    third = yield from _look(cpu, wire, SHORT)

    for name in ("lab_b", "lab_c"):
        yield from free_irq(cpu, IRQ, name)
    wire.b.set(cpu, False)
    request_irq(cpu, IRQ, drivers.lab_b_interrupt, IRQF_SHARED, "lab_b", "lab_b")
    printk(cpu, f"{NAME}: all drivers let go, lab_b asks anew")
    reload = yield from _look(cpu, wire, SHORT)
    yield from free_irq(cpu, IRQ, "lab_b")
    irq_sim_remove(cpu, IRQ)
    report(
        cpu,
        NAME,
        window=window,
        storm=storm,
        disabled="yes" if disabled else "no",
        calm=calm[0],
        dead=dead[0],
        of=rounds,
        third=third[0],
        reload=reload[0],
        revived="yes" if disabled and not still else "no",
        calm_wait_us=calm[1],
        dead_wait_us=wait_us,
    )
    return 0


def _state(disabled: bool) -> str:
    return "disabled" if disabled else "enabled"


def _storm(cpu: Cpu, drivers: Drivers, window: int, gap_ms: int) -> Context:
    """Until the line is disabled; after three windows without a verdict A is switched off."""
    desc, a = cpu.irq.desc[IRQ], drivers.wire.a
    end = cpu.now() + PATIENCE_NS
    a.ring(cpu)
    while not desc.state & IRQD_IRQ_DISABLED and drivers.seen < WINDOWS_MAX * window:
        if cpu.now() > end:
            break
        yield from nanosleep(cpu, gap_ms * MS or MS // 10)
        if gap_ms:
            a.ring(cpu)
    if not desc.state & IRQD_IRQ_DISABLED:
        a.set(cpu, False)


def _look(cpu: Cpu, wire: Wire, rounds: int) -> Context:
    """B has an event every 10 ms; how many were handled, and the longest wait in us."""
    b = wire.b
    before, b.longest_ns = b.handled, 0
    for _ in range(rounds):
        b.ring(cpu)
        yield from nanosleep(cpu, PERIOD_MS * MS)
    return b.handled - before, -(-b.longest_ns // 1000)
