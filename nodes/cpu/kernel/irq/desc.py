"""Interrupt descriptors: struct irq_desc, irq_data, irqaction, irq_chip (include/linux/irq*.h).

``IrqTable`` is what one CPU knows: its ``vector_irq`` and the descriptors. Descriptors are made by
the boot CPU and replicated; **a line's flow state lives on the CPU that the line is routed to**
(``desc.target``), the other replicas only carry its name and route. All of it is touched with
interrupts off between two boundaries, which is what ``desc->lock`` gives in Linux. So chip
operations are plain calls (a posted write at the most), never contexts.

States: ``istate`` holds IRQS_*, ``state`` IRQD_*, ``settings`` the _IRQ_* bits of
``irq_set_status_flags``, with 6.1's names in every era (2.6.18 keeps the same facts in one word,
``desc->status``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.irq.gsi import GsiUse
    from nodes.cpu.kernel.irq.migration import Motion
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.sched import Task
    from nodes.cpu.kernel.tasklet import Tasklet
    from nodes.cpu.kernel.timer import Timer

IRQ_NONE, IRQ_HANDLED, IRQ_WAKE_THREAD = 0, 1, 2

IRQS_AUTODETECT, IRQS_SPURIOUS_DISABLED, IRQS_POLL_INPROGRESS, IRQS_ONESHOT = 0x1, 0x2, 0x8, 0x20
IRQS_REPLAY, IRQS_WAITING, IRQS_PENDING, IRQS_SUSPENDED = 0x40, 0x80, 0x200, 0x800

IRQD_TRIGGER_MASK = 0xF
IRQD_SETAFFINITY_PENDING, IRQD_ACTIVATED, IRQD_NO_BALANCING = 1 << 8, 1 << 9, 1 << 10
IRQD_PER_CPU, IRQD_AFFINITY_SET, IRQD_LEVEL = 1 << 11, 1 << 12, 1 << 13
IRQD_IRQ_DISABLED, IRQD_IRQ_MASKED, IRQD_IRQ_INPROGRESS = 1 << 16, 1 << 17, 1 << 18
IRQD_IRQ_STARTED = 1 << 22

#: settings: irq_set_status_flags
IRQ_LEVEL, IRQ_NOPROBE, IRQ_NOREQUEST, IRQ_NOAUTOEN = 1 << 8, 1 << 10, 1 << 11, 1 << 12
IRQ_NESTED_THREAD, IRQ_NOTHREAD, IRQ_PER_CPU_DEVID = 1 << 15, 1 << 16, 1 << 17
IRQ_IS_POLLED, IRQ_DISABLE_UNLAZY = 1 << 18, 1 << 19
IRQ_DELAYED_DISABLE = 1 << 28  # 2.6.18's bit: may be disabled lazily

IRQF_TRIGGER_RISING, IRQF_TRIGGER_FALLING, IRQF_TRIGGER_HIGH, IRQF_TRIGGER_LOW = 1, 2, 4, 8
IRQF_TRIGGER_MASK = 0xF
IRQF_DISABLED, IRQF_SHARED, IRQF_PROBE_SHARED, IRQF_TIMER_BIT = 0x20, 0x80, 0x100, 0x200
IRQF_PERCPU, IRQF_NOBALANCING, IRQF_IRQPOLL, IRQF_ONESHOT = 0x400, 0x800, 0x1000, 0x2000
IRQF_NO_SUSPEND, IRQF_NO_THREAD, IRQF_COND_SUSPEND = 0x4000, 0x10000, 0x40000
IRQF_NO_AUTOEN = 0x80000
IRQF_TIMER = IRQF_TIMER_BIT | IRQF_NO_SUSPEND | IRQF_NO_THREAD

IRQTF_RUNTHREAD, IRQTF_WARNED, IRQTF_AFFINITY, IRQTF_FORCED_THREAD, IRQTF_READY = 1, 2, 4, 8, 16

#: irq_chip.flags
IRQCHIP_EOI_IF_HANDLED, IRQCHIP_ONESHOT_SAFE, IRQCHIP_EOI_THREADED = 1 << 1, 1 << 5, 1 << 6

FIRST_MSI_IRQ = 24
NR_IRQS = 256

#: irq handler of (irq, dev_id), run with interrupts off: returns IRQ_*, or a context that does if
#: it must read registers. A thread_fn is the same, run by a task.
Handler = Callable[[int, Any], "int | Context"]

#: The flow of a line, run by its vector's interrupt: handle_edge_irq and its kin.
FlowHandler = Callable[["Cpu", "IrqDesc"], Context]
#: Entry of a system vector: (cpu, vector, context that it interrupted).
SystemEntry = Callable[["Cpu", int, int], Context]
ChipOp = Callable[["Cpu", "IrqDesc"], None]


class Line(Protocol):
    """The hardware behind a descriptor (``chip_data``): what its chip masks and acknowledges."""

    def mask(self, cpu: Cpu) -> None: ...

    def unmask(self, cpu: Cpu) -> None: ...

    def eoi(self, cpu: Cpu) -> None: ...

    def write_msg(self, cpu: Cpu, target: int, vector: int) -> None: ...


class NoLine:
    """Nothing to mask: a message that cannot be held back."""

    def mask(self, cpu: Cpu) -> None:
        pass

    def unmask(self, cpu: Cpu) -> None:
        pass

    def eoi(self, cpu: Cpu) -> None:
        pass

    def write_msg(self, cpu: Cpu, target: int, vector: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class IrqChip:
    """struct irq_chip: the callbacks that a chip has. ``ack`` and ``end`` are 2.6.18's pair around
    __do_IRQ; what is missing falls back as ``chip.py`` says."""

    name: str
    irq_startup: ChipOp | None = None
    irq_shutdown: ChipOp | None = None
    irq_enable: ChipOp | None = None
    irq_disable: ChipOp | None = None
    irq_ack: ChipOp | None = None
    irq_mask: ChipOp | None = None
    irq_mask_ack: ChipOp | None = None
    irq_unmask: ChipOp | None = None
    irq_eoi: ChipOp | None = None
    irq_end: ChipOp | None = None
    irq_retrigger: Callable[[Cpu, IrqDesc], bool] | None = None
    irq_set_type: Callable[[Cpu, IrqDesc, int], int] | None = None  # (.., IRQF_TRIGGER_*): errno
    irq_set_affinity: Callable[[Cpu, IrqDesc, int, int], None] | None = None  # (.., CPU, vector)
    irq_activate: Callable[[Cpu, IrqDesc], int] | None = None  # 6.1: a vector, or an errno
    flags: int = 0


no_irq_chip = IrqChip("none")


@dataclass(slots=True, eq=False)
class IrqAction:
    """struct irqaction."""

    handler: Handler
    name: str
    dev_id: Any
    flags: int = 0
    thread_fn: Handler | None = None
    thread: Task | None = None
    thread_flags: int = 0  # IRQTF_*
    thread_mask: int = 0  # its bit of threads_oneshot
    secondary: IrqAction | None = None  # of a forced handler that has a thread_fn of its own


def no_flow(_cpu: Cpu, desc: IrqDesc) -> Context:
    raise AssertionError(f"irq {desc.irq} has no flow handler")


@dataclass(slots=True, eq=False)
class IrqDesc:
    """struct irq_desc. ``vector`` and ``target`` (CPU it is routed to) are x86's cfg."""

    irq: int
    hwirq: int
    vector: int
    target: int
    chip: IrqChip = no_irq_chip
    chip_data: Line = field(default_factory=NoLine)
    handle_irq: FlowHandler = no_flow
    name: str = ""  # of the flow: edge, fasteoi
    actions: list[IrqAction] = field(default_factory=list)  # replaced as a whole, never changed
    istate: int = 0
    state: int = IRQD_IRQ_DISABLED | IRQD_IRQ_MASKED
    settings: int = 0
    depth: int = 1
    # the spurious detector
    irq_count: int = 0
    irqs_unhandled: int = 0
    last_unhandled: int = 0  # jiffies
    threads_handled: int = 0
    threads_handled_last: int = 0
    # irq threads
    threads_oneshot: int = 0
    threads_active: int = 0
    wait_for_threads: list[Task] = field(default_factory=list)
    arrived_ns: int = 0
    # on the move to another CPU, or from one
    motion: Motion | None = None
    incoming: Motion | None = None

    @property
    def chip_name(self) -> str:
        return self.chip.name


class IrqTable:
    """vector_irq, descriptors and the interrupt layer's other variables, as one CPU sees them."""

    def __init__(self) -> None:
        self.desc: dict[int, IrqDesc] = {}
        self.vector_irq: list[IrqDesc | None] = [None] * 256
        self.system_entry: dict[int, SystemEntry] = {}  # by vector: not for devices
        self.cleanup_list: list[tuple[int, int]] = []  # (irq, serial) that have moved away
        self.gsi: dict[int, GsiUse] = {}  # on the boot CPU
        self.gsi_of: dict[int, int] = {}  # likewise, by NIC: what pci_irq gave it
        self.resend_list: list[IrqDesc] = []  # irqs_resend
        self.resend_tasklet: Tasklet | None = None
        self.poll_timer: Timer | None = None  # poll_spurious_irq_timer
        self.bogus_reports = 0
        # behaviours, as looked at for each interrupt
        self.count_every = True  # does the detector look at interrupts that went well too?
        self.handlers_irqs_on = False
        self.handlers_watched = True  # is one that enables interrupts told off?
