"""What one CPU owns: its flags, its stack of contexts, and the kernel's per-CPU variables.

This emulation is a multikernel: each piece of kernel state has one writer CPU. So the first
parameter of almost every kernel function is ``cpu``, the CPU that runs it, and what Linux reaches
through ``this_cpu_ptr`` hangs off it. Device, bond, route and neighbour tables are written by the
boot CPU; the others hold replicas (``kernel.tables``).

Kernel code runs as generators; **each yield is an instruction boundary**, the only place where an
interrupt can be taken, and then only if ``irqs_on``. What a context yields:

* ``None``: a boundary and nothing else;
* ``USER``: the task is in user mode here, so it may also be preempted;
* ``SCHEDULE``: the task calls ``schedule()``;
* ``MmioRead``, ``IoApicRead``, ``ConfigAccess``: a non-posted access; the yield returns the value;
* ``Pause``: a busy wait;
* ``PLAY_DEAD``: the idle task of a CPU that went offline: it halts until INIT and STARTUP;
* ``SoftwareInterrupt``: the ``int n`` instruction; the yield returns what the gate's handler does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from bus.ram import Ram
from bus.recorder import Recorder
from nodes.cpu.kernel.jiffies import initial_jiffies
from nodes.cpu.kernel.params import Params
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import MachineSettings

if TYPE_CHECKING:
    from nodes.cpu.idt import Idt
    from nodes.cpu.kernel.cpuhotplug import Hotplug
    from nodes.cpu.kernel.cputime import CpuTime
    from nodes.cpu.kernel.irq.affinity import Affinities
    from nodes.cpu.kernel.irq.desc import IrqTable
    from nodes.cpu.kernel.irq.vector import VectorSpace
    from nodes.cpu.kernel.locks.lockdep import Lockdep
    from nodes.cpu.kernel.module import Loaded
    from nodes.cpu.kernel.net.device import Rtnl
    from nodes.cpu.kernel.net.netdevice import Net
    from nodes.cpu.kernel.pciehp.controller import Pciehp
    from nodes.cpu.kernel.rcu import Rcu
    from nodes.cpu.kernel.sched import RunQueue, Task
    from nodes.cpu.kernel.smp import CallQueues
    from nodes.cpu.kernel.softirq import SoftirqState
    from nodes.cpu.kernel.sysctl import Sysctl
    from nodes.cpu.kernel.tasklet import TaskletState
    from nodes.cpu.kernel.tick import Timers
    from nodes.cpu.kernel.watchdog import Watchdog
    from nodes.cpu.kernel.workqueue import Workqueues
    from nodes.cpu.lapic import LocalApic
    from nodes.cpu.lapicregs import LocalApicRegisters
    from nodes.cpu.programs.run import Programs

#: A context: a generator that yields operations and is sent their results.
Context = Generator[Any, Any, Any]


class _Mark:
    """A value that is only compared by identity."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


SCHEDULE = _Mark("SCHEDULE")
USER = _Mark("USER")
PLAY_DEAD = _Mark("PLAY_DEAD")


class MmioRead(NamedTuple):
    """32-bit read of a BAR of NIC number ``nic``; the CPU stalls until it completes."""

    nic: int
    offset: int
    bar: int = 0


class IoApicRead(NamedTuple):
    """32-bit read of the I/O APIC's page; the CPU stalls until it completes."""

    offset: int


class ConfigAccess(NamedTuple):
    """Configuration space access (``value`` None: a read); the CPU stalls until it completes.
    ``nic`` is a NIC's number, or from ``PORTS`` on that of a root port."""

    nic: int
    offset: int
    size_bytes: int
    value: int | None = None


class Pause(NamedTuple):
    """A busy wait: the context goes on at this clock at the latest; it keeps the CPU till then."""

    until_ns: int


class SoftwareInterrupt(NamedTuple):
    """``int n`` executed at privilege level ``cpl`` (0 kernel, 3 user)."""

    n: int
    cpl: int = 0


ALL_ONES = 0xFFFF_FFFF

SOFTIRQ_OFFSET = 0x100
HARDIRQ_OFFSET = 0x10000
SOFTIRQ_MASK = 0x0000FF00
#: Hardirq, softirq and NMI bits together, wherever the era has its NMI bits.
INTERRUPT_MASK = 0x0FFFFF00

CONTEXT_IDLE, CONTEXT_TASK, CONTEXT_SOFTIRQ, CONTEXT_HARDIRQ, CONTEXT_NMI = 0, 1, 2, 3, 4
CONTEXT_STALLED, CONTEXT_OFFLINE = 5, 6

#: In ``Cpu.levels`` beside vectors (which are never negative).
LEVEL_SOFTIRQ, LEVEL_NMI = -1, -2

_TIME_WORD = {
    CONTEXT_TASK: CPU_SCHEMA.index("task_ns"),
    CONTEXT_SOFTIRQ: CPU_SCHEMA.index("softirq_ns"),
    CONTEXT_HARDIRQ: CPU_SCHEMA.index("hardirq_ns"),
    CONTEXT_NMI: CPU_SCHEMA.index("nmi_ns"),
}


class Cpu:
    """One CPU and its per-CPU kernel variables."""

    rq: RunQueue
    timers: Timers
    time: CpuTime
    softirq: SoftirqState
    tasklets: TaskletState
    irq: IrqTable
    idt: Idt
    vectors: VectorSpace  # of all CPUs; on the boot CPU
    affinity: Affinities  # likewise
    wq: Workqueues
    watchdog: Watchdog
    call: CallQueues
    rcu: Rcu
    hotplug: Hotplug
    net: Net
    pciehp: Pciehp  # on the boot CPU
    pci_rescan_remove: Rtnl  # likewise: devices enter and leave one at a time
    ifup: Callable[[Cpu, int], Context] | None  # what configures a NIC that was plugged in
    current: Task
    idle: Task
    lapic: LocalApic
    apic: LocalApicRegisters
    programs: Programs
    sysctl: Sysctl
    modules: dict[str, Loaded]  # of all CPUs, the oldest first

    def __init__(
        self,
        number: int,
        machine: MachineSettings,
        params: Params,
        ram: Ram,
        rng: random.Random,
        clock: Callable[[], int],
        post: Callable[[str, Any], None],
        step_ns: int,
    ) -> None:
        self.number = number
        self.name = f"cpu{number}"
        self.machine = machine
        self.params = params
        self.ram = ram
        self.rng = rng
        self.post = post
        self.boot = number == 0
        self.page = ram.page(self.name, CPU_SCHEMA)
        self.words = self.page.words
        self.recorder = Recorder(ram.recorder_words(self.name))
        self.trace_mask = 0  # the recorder's, as of the beginning of the turn
        self.log = ram.log(number)
        self.handover = ram.handover(number)
        self.tap = ram.tap(number)
        # hardware state of the core
        self.irqs_on = False
        self.online = False
        self.stack: list[Context] = []  # interrupt contexts above the current task
        #: What serves what, outermost first: a vector for a hard interrupt, or a LEVEL_ value.
        #: Kept apart from preempt_count, so that ``nodes.cpu.invariants`` can compare the two.
        self.levels: list[int] = []
        #: For each frame of the stack what its iret restores: IF, and what the frame below was
        #: to be told when it was interrupted.
        self.saved: list[tuple[bool, Any]] = []
        self.steps = 0
        self.lost_nics: list[bool] = [False] * len(machine.nics)
        self.pci_disconnected: list[bool] = [False] * len(machine.nics)  # on the boot CPU
        #: Clock in ns; where time is virtual it moves with each boundary.
        self.now: Callable[[], int] = clock
        if step_ns:
            self.now = lambda: clock() + self.steps * step_ns
        # kernel state of the core
        self.preempt_count = 0
        self._initial_jiffies = initial_jiffies(params.hz)
        self.preempt_counted = 1 if params.preempt_count == "on" else 0  # what a spinlock adds
        self.lockdep: Lockdep | None = None  # with prove_locking
        self.mutex_waiters: dict[int, list[Task]] = {}  # tasks of this CPU, by mutex
        self.might_sleep_jiffies: int | None = None  # of the last report
        self.hardirq_mask = params.hardirq_mask
        self.nmi_mask = params.nmi_mask
        self.nmi_handlers: list[Callable[[Cpu], bool]] = []  # True: it was for this handler
        self.warned: list[tuple[str, str]] = []  # places whose WARN_ONCE has spoken
        self.symbols: list[str] = [""]  # by number, for trace records
        self._symbol_numbers: dict[str, int] = {"": 0}
        self.need_resched = False
        self.ipis_posted: list[tuple[int, int]] = []  # (target, vector) of this turn
        self.online_cpus: list[int] = []
        #: by offline CPU: (kind, key) -> value of what was published without it (``tables``)
        self.missed: dict[int, dict[tuple[str, Any], Any]] = {}
        self.module_data: dict[str, Any] = {}  # what loaded modules keep for this CPU, by name
        self.tables_changed = False  # since the last snapshot that outlives this CPU
        self.context = CONTEXT_OFFLINE  # what it is doing: index into ``nodes.cpu.page.CONTEXTS``
        self._context_since = 0

    # -- time

    def uptime_ns(self) -> int:
        """Kernel time: ns since power-on."""
        return self.now() - self.ram.boot_ns

    def jiffies(self) -> int:
        """Ticks, from INITIAL_JIFFIES on; see ``kernel.jiffies`` for comparing them."""
        ticks = (self.now() - self.ram.boot_ns) * self.params.hz // 1_000_000_000
        return ticks + self._initial_jiffies

    # -- context predicates (include/linux/preempt.h)

    def in_irq(self) -> bool:
        return bool(self.preempt_count & self.hardirq_mask)

    def in_nmi(self) -> bool:
        return bool(self.preempt_count & self.nmi_mask)

    def in_interrupt(self) -> bool:
        return bool(self.preempt_count & INTERRUPT_MASK)

    def in_task(self) -> bool:
        """Neither NMI, hard interrupt nor a softirq being served; bottom halves may be off."""
        mask = self.nmi_mask | self.hardirq_mask | SOFTIRQ_OFFSET
        return not self.preempt_count & mask

    def in_atomic(self) -> bool:
        return self.preempt_count != 0

    def preemptible(self) -> bool:
        return self.preempt_count == 0 and self.irqs_on

    def in_softirq(self) -> bool:
        return bool(self.preempt_count & SOFTIRQ_MASK)

    def in_serving_softirq(self) -> bool:
        return bool(self.preempt_count & SOFTIRQ_OFFSET)

    # -- accounting and tracing

    def enter_context(self, context: int) -> int:
        """Charge the time since the last change to the old context; returns the old one."""
        old = self.context
        if old != context:
            now = self.now()
            word = _TIME_WORD.get(old)
            if word is not None:
                self.words[word] += now - self._context_since
            self._context_since = now
            self.context = context
        return old

    def trace(self, event: int, a: int = 0, b: int = 0) -> None:
        """Write a trace record, if that event is being recorded (``nodes.cpu.trace`` has the
        meaning of the context word)."""
        if self.trace_mask >> event & 1:
            count = self.preempt_count
            context = (
                self.context
                | len(self.stack) << 8
                | (not self.irqs_on) << 16
                | self.need_resched << 17
                | bool(count & self.hardirq_mask) << 18
                | bool(count & self.nmi_mask) << 19
                | (count & 0xF) << 20
                | (count >> 8 & 0xFF) << 24
                | self.current.pid << 32
            )
            self.recorder.record(self.now(), event, context, a, b)

    def symbol(self, name: str) -> int:
        """Number of a function's or object's name, as trace records hold it."""
        number = self._symbol_numbers.get(name)
        if number is None:
            number = self._symbol_numbers[name] = len(self.symbols)
            self.symbols.append(name)
        return number
