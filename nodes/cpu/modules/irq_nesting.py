"""May one interrupt come in on top of another? Tried out with two lines and an NMI.

The handler of one line (``outer``) waits until another interrupt is there (its bit stands in the
local APIC's IRR, or it was taken already), gives it some boundaries to come in, and notes whether
it did. The other is of a higher priority class, of the same class, of a lower one, or the same
line once more; the flow is edge (EOI before the handlers) or fasteoi (EOI after them). Last comes
an NMI, sent through the ICR. Each step is a line of the log with IF, IRR and ISR::

    irq_nesting: edge=none fasteoi=none nmi=yes depth=2 after=8

``edge`` and ``fasteoi`` list what nested; ``depth`` is the highest number of hard interrupts on top
of each other, ``after`` how many had to wait and ran right after. ``sti=1``: the handler enables
interrupts itself, as it must not.
"""

from __future__ import annotations

from errno import EIO
from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IRQD_IRQ_INPROGRESS, IRQF_DISABLED, IRQS_PENDING
from nodes.cpu.kernel.irq.manage import free_irq, request_irq
from nodes.cpu.kernel.irq.sim import (
    irq_sim_assert,
    irq_sim_create,
    irq_sim_deassert,
    irq_sim_fire,
    irq_sim_line,
    irq_sim_remove,
)
from nodes.cpu.kernel.irqflags import local_irq_enable
from nodes.cpu.kernel.percpu import HARDIRQ_OFFSET, Context, Pause
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.lapic import NMI
from nodes.cpu.lapicregs import OFFSET
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "irq_nesting"
#: Lines are called by their vectors: da and dc are of one class, 5c of a lower one.
LINES = {"5c": (250, 0x5C), "da": (251, 0xDA), "dc": (252, 0xDC)}  # irq, vector
#: which case: the line whose handler lasts, and the line that comes meanwhile
CASES = {
    "higher": ("5c", "da"),
    "same": ("da", "dc"),
    "lower": ("da", "5c"),
    "itself": ("da", "da"),
}
HOLD_NS, WAIT_NS = 5_000, 2_000_000_000
CHANCES = 12  # boundaries at which what has arrived could be taken


class Trial:
    """One interrupt during the handler of another."""

    def __init__(self, flow: str, case: str, sti: bool) -> None:
        self.flow, self.case, self.sti = flow, case, sti
        self.outer, self.inner = CASES.get(case, ("5c", "NMI"))
        self.outer_runs = 0  # its handler is running, or has run
        self.holding = False
        self.nested = False
        self.depth = 1
        self.done: list[str] = []  # handlers that ended, in order

    def note(self, cpu: Cpu, text: str) -> None:
        """One step with the flags, and what the local APIC holds of the three lines."""
        hardirq = (cpu.preempt_count & cpu.hardirq_mask) // HARDIRQ_OFFSET
        self.depth = max(self.depth, hardirq)
        requested, in_service = (_vectors(bits) for bits in (cpu.lapic.irr, cpu.lapic.isr))
        flags = f"IF {int(cpu.irqs_on)} IRR {requested:<2} ISR {in_service:<5} HARDIRQ {hardirq}"
        printk(cpu, f"  {text:<16} {flags}")

    def send(self, cpu: Cpu) -> None:
        """The other interrupt comes up."""
        if self.inner == "NMI":
            cpu.apic.write(OFFSET["ICR_HIGH"], cpu.number << 24)
            cpu.apic.write(OFFSET["ICR_LOW"], 1 << 14 | NMI << 8)
        else:
            self.raise_line(cpu, self.inner)

    def raise_line(self, cpu: Cpu, line: str) -> None:
        irq = LINES[line][0]
        (irq_sim_fire if self.flow == "edge" else irq_sim_assert)(cpu, irq)

    def arrived(self, cpu: Cpu) -> bool:
        """It is at this CPU (or held back at the pin), or it has been taken."""
        if self.nested or self.inner == "NMI":
            return self.nested
        irq, vector = LINES[self.inner]
        desc, wire = cpu.irq.desc[irq], irq_sim_line(cpu, irq)
        at_pin = wire.asserted and wire.remote_irr and self.inner == self.outer
        marked = desc.state & IRQD_IRQ_INPROGRESS and desc.istate & IRQS_PENDING
        return bool(cpu.lapic.irr >> vector & 1 or at_pin or marked)

    def handler(self, cpu: Cpu, line: str) -> Context:
        """Of all three lines; the first run of ``outer`` is the one that lasts."""
        if self.flow == "fasteoi":
            irq_sim_deassert(cpu, LINES[line][0])  # the device is quieted
        if line == self.outer and not self.outer_runs:
            self.outer_runs = 1
            yield from self.last(cpu)
        else:
            self.nested |= self.holding
            self.note(cpu, f"{line} {'on top of ' + self.outer if self.holding else 'runs after'}")
        yield
        self.done.append(line)
        return IRQ_HANDLED

    def last(self, cpu: Cpu) -> Context:
        """The handler that lasts."""
        self.holding = True
        if self.sti:
            local_irq_enable(cpu)
        self.note(cpu, f"{self.outer} begins")
        self.send(cpu)
        give_up = cpu.now() + WAIT_NS
        while not self.arrived(cpu) and cpu.now() < give_up:
            yield Pause(cpu.now() + HOLD_NS)
        for _ in range(CHANCES):
            yield
        self.note(cpu, f"{self.outer} ends")
        self.holding = False

    def nmi(self, cpu: Cpu) -> bool:
        """Asked at each NMI of this CPU."""
        if not self.holding:
            return False
        self.nested = True
        self.note(cpu, f"NMI on top of {self.outer}")
        return True


def _vectors(bits: int) -> str:
    """Those of the three lines, lowest first."""
    return ",".join(f"{v:02x}" for _, v in LINES.values() if bits >> v & 1) or "-"


@module(
    NAME,
    params={
        "disabled": (0, "1: ask for the lines with IRQF_DISABLED"),
        "sti": (0, "1: the handler enables interrupts itself"),
    },
)
def init(cpu: Cpu, params: Values) -> Context:
    """Try interrupts and an NMI on top of handlers of edge and level lines."""
    depth = after = 0
    nested: dict[str, list[str]] = {"edge": [], "fasteoi": []}
    for flow, found in nested.items():
        cases = [*CASES, *(["nmi"] if flow == "fasteoi" else [])]
        for case in cases:
            trial = Trial(flow, case, bool(params["sti"]))
            error: int = yield from _play(cpu, trial, bool(params["disabled"]))
            if error:
                return error
            depth = max(depth, trial.depth)
            if trial.nested:
                found.append(case)
            elif trial.inner in trial.done:
                after += 1
    nmi = "nmi" in nested["fasteoi"]
    figures = {flow: ",".join(n for n in found if n != "nmi") for flow, found in nested.items()}
    report(
        cpu,
        NAME,
        edge=figures["edge"] or "none",
        fasteoi=figures["fasteoi"] or "none",
        nmi="yes" if nmi else "no",
        depth=depth,
        after=after,
    )
    return 0


def _play(cpu: Cpu, trial: Trial, disabled: bool) -> Context:
    """One trial with lines of its own; 0 or -errno."""
    printk(cpu, f"{NAME}: {trial.flow}, {trial.case}: {trial.inner} during {trial.outer}")
    lines = [line for line in LINES if line in (trial.outer, trial.inner)]
    for line in lines:
        irq, vector = LINES[line]
        irq_sim_create(cpu, irq, trial.flow, vector=vector)

        def handler(_irq: int, dev_id: str) -> Context:
            return trial.handler(cpu, dev_id)

        handler.__name__ = f"{NAME}_handler"
        request_irq(cpu, irq, handler, IRQF_DISABLED if disabled else 0, NAME, line)
    cpu.nmi_handlers.append(trial.nmi)
    trial.raise_line(cpu, trial.outer)
    give_up = cpu.now() + 2 * WAIT_NS
    awaited = 1 if trial.inner == "NMI" else 2
    while len(trial.done) < awaited and cpu.now() < give_up:
        yield from msleep(cpu, 1)
    cpu.nmi_handlers.remove(trial.nmi)
    for line in lines:
        irq = LINES[line][0]
        yield from free_irq(cpu, irq, line)
        irq_sim_remove(cpu, irq)
    return 0 if len(trial.done) >= awaited else -EIO
