"""A CPU as a node: instruction boundaries, the stack of contexts, and the way to the devices.

The core knows nothing of Linux but how its contexts are written (``kernel.percpu``). In a turn it
resumes the topmost context again and again; between two resumptions lies an instruction boundary,
where it first takes the local timer's deadline, then an NMI, and then, if IF is set, the highest
vector that the local APIC requests. ``int n`` goes through the table of gates and asks nobody.

A non-posted access stalls the core: no context runs, vectors only set IRR, until the completion
arrives, or all ones do: at once when the device's link is lost, else after the completion timeout.
The turn ends when there is nothing to run, at a stall, or with the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from bus.messages import (
    SNAPSHOT_BYTES_MAX,
    CfgRead,
    CfgWrite,
    Completion,
    EoiBroadcast,
    IcrWrite,
    Interrupt,
    LocalApicId,
    MemRead,
    MemWrite,
    PeerBack,
    PeerLost,
    Reply,
    Signal,
    Snapshot,
    Spawn,
)
from bus.node import BUDGET, IDLE, NOW, Inbox, Node, Surroundings
from bus.recorder import always_mask
from nodes.cpu import lapic as apic_modes
from nodes.cpu.idt import INTERRUPT_GATE, GeneralProtectionError
from nodes.cpu.invariants import InvariantError, broken
from nodes.cpu.kernel import boot
from nodes.cpu.kernel.bug import KernelBugError, panic
from nodes.cpu.kernel.irq.entry import interrupt
from nodes.cpu.kernel.irq.nmi import nmi
from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.cpu.kernel.percpu import (
    ALL_ONES,
    CONTEXT_IDLE,
    CONTEXT_OFFLINE,
    CONTEXT_STALLED,
    PLAY_DEAD,
    SCHEDULE,
    USER,
    ConfigAccess,
    Context,
    Cpu,
    IoApicRead,
    MmioRead,
    Pause,
    SoftwareInterrupt,
)
from nodes.cpu.kernel.sched import SIGSEGV, schedule, task_exit
from nodes.cpu.kernel.traps import general_protection
from nodes.cpu.lapic import LocalApic
from nodes.cpu.lapicregs import LocalApicRegisters
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.programs import (  # noqa: F401  (importing registers them)
    admin,
    arping,
    chcpu,
    ethtool,
    files,
    ip,
    iptables,
    modules,
    ping,
    sleep,
    tcpdump,
    udpecho,
)
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import APIC, PORTS, MachineSettings

#: Boundaries between two looks at the clock where time passes by itself.
CLOCK_BOUNDARIES = 8

_BOUNDARIES = CPU_SCHEMA.index("boundaries")
_CONTEXT = CPU_SCHEMA.index("context")
_DEPTH = CPU_SCHEMA.index("depth")
_PREEMPT = CPU_SCHEMA.index("preempt_count")
_IF = CPU_SCHEMA.index("irq_enabled")
_PENDING = CPU_SCHEMA.index("softirq_pending")
_STALLED_ON = CPU_SCHEMA.index("stalled_on")
_LAPIC_IN = CPU_SCHEMA.index("lapic_in")
_LAPIC_ILLEGAL = CPU_SCHEMA.index("lapic_illegal")
_LAPIC_OTHER = CPU_SCHEMA.index("lapic_other")
_IPI_SENT = CPU_SCHEMA.index("ipi_sent")
_EOI_SENT = CPU_SCHEMA.index("eoi_sent")
_IOAPIC_READS = CPU_SCHEMA.index("ioapic_reads")
_PORT_ACCESSES = CPU_SCHEMA.index("port_accesses")
_IOAPIC_TIMEOUTS = CPU_SCHEMA.index("ioapic_timeouts")
_READS = CPU_SCHEMA.index("mmio_reads")
_WRITES = CPU_SCHEMA.index("mmio_writes")
_ONES = CPU_SCHEMA.index("mmio_all_ones")
_TIMEOUTS = CPU_SCHEMA.index("mmio_timeouts")
_LOST = CPU_SCHEMA.index("mmio_lost")
_DYNTICKS = CPU_SCHEMA.index("rcu_dynticks")
_BROKEN = CPU_SCHEMA.index("broken_invariants")
_ONLINE = CPU_SCHEMA.index("online")
_CPU_STATE = CPU_SCHEMA.index("cpu_state")
_CONTROL_NS = CPU_SCHEMA.index("control_ns")
_MMIO_READ = TRACEPOINTS["mmio_read"].number


class _Stall:
    """The non-posted access the core waits for: of a NIC, or (-1) of the interrupt controller."""

    def __init__(self, tag: int, nic: int, deadline_ns: int) -> None:
        self.tag = tag
        self.nic = nic
        self.deadline_ns = deadline_ns


def _config_request(tag: int, op: ConfigAccess, function: int = 0) -> CfgRead | CfgWrite:
    if op.value is None:
        return CfgRead(tag, op.offset, op.size_bytes, function)
    return CfgWrite(tag, op.offset, op.size_bytes, op.value, function)


class CpuNode(Node):
    """One CPU process."""

    def __init__(self, around: Surroundings, machine: MachineSettings, number: int) -> None:
        super().__init__(around)
        self.page = around.ram.page(around.name, CPU_SCHEMA)
        self.words = self.page.words
        params = with_overrides(PRESETS[machine.era], machine.overrides)
        self.cpu = Cpu(
            number,
            machine,
            params,
            around.ram,
            around.rng,
            around.clock,
            self.post,
            around.step_ns,
        )
        self.cpu.lapic = LocalApic(self.page)
        self.cpu.lapic.level_eoi = self._broadcast_eoi
        self.cpu.apic = LocalApicRegisters(
            self.cpu.lapic, number, self._send_icr, self.cpu.now, self._tell_apic_id
        )
        self.cpu.recorder.mask = always_mask(TRACEPOINTS)
        self._nics = {name: i for i, name in enumerate(machine.nic_names)}
        self._nic_names = machine.nic_names
        self._tag = 0
        self._stall: _Stall | None = None
        self._nmi_latched = False
        self._nmi_frame: Context | None = None  # no other NMI comes in while it stands
        self._halted = False  # after a panic
        self._resume: Any = None
        #: what interrupted frames are still to be told: (depth of the stack below, value)
        self._held: list[tuple[int, Any]] = []
        self._step_ns = around.step_ns
        self._running = False
        self._dynticks = 1  # odd: not idle
        self._pausing = False
        #: called after each instruction boundary while somebody steps through the simulation
        self.watch: Callable[[], None] | None = None
        self._arrived: dict[int, int] = {}
        self._last_words = around.ram.last_words()
        self._timeout_ns = machine.completion_timeout_ms * 1_000_000
        self._handlers: dict[type, Callable[[str, Any], None]] = {
            Interrupt: self._on_interrupt,
            Completion: self._on_completion,
            Snapshot: self._on_snapshot,
            Spawn: self._on_spawn,
            Signal: self._on_signal,
            PeerLost: self._on_peer_lost,
            PeerBack: self._on_peer_back,
        }
        boot.prepare(self.cpu)
        if number == 0:
            self._power_on()

    def _power_on(self) -> None:
        """The boot CPU at power-on, another at its STARTUP message, each time it comes online."""
        self._running = True
        self._dynticks |= 1
        self.words[_DYNTICKS] = self._dynticks
        boot.start(self.cpu)

    # -- the turn

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        self.steps = self.cpu.steps = 0
        handlers = self._handlers
        for sender, message in inbox:
            handler = handlers.get(type(message))
            if handler is not None:
                handler(sender, message)
        cpu = self.cpu
        cpu.trace_mask = cpu.recorder.mask
        if cpu.ipis_posted:
            cpu.ipis_posted.clear()
        if not self._running or self._halted:
            return IDLE
        if self._stall is not None and not self._stall_over():
            self._show(CONTEXT_STALLED)
            return self._stall.deadline_ns
        words = self.words
        if self._dynticks % 2 == 0:
            self._dynticks += 1
            words[_DYNTICKS] = self._dynticks
        wake = self._run(budget) if self.watch is None else self._run_watched(budget, self.watch)
        words[_BOUNDARIES] += self.steps
        if wake == NOW or self._pausing:
            self._pausing = False
            self._show(cpu.context)
        elif self._stall is not None:
            self._show(CONTEXT_STALLED)
        else:
            self._show(CONTEXT_IDLE if self._running else CONTEXT_OFFLINE)
        return wake

    def _run_watched(self, budget: int, watch: Callable[[], None]) -> int | None:
        """As ``_run``, boundary by boundary: the same turn, looked at from outside."""
        wake: int | None = NOW
        while wake == NOW and self.steps < budget:
            wake = self._run(self.steps + 1)
            watch()
        return wake

    def _run(self, budget: int) -> int | None:
        """Pass up to ``budget`` boundaries; returns as ``turn`` does."""
        cpu, lapic, stack = self.cpu, self.cpu.lapic, self.cpu.stack
        value, self._resume = self._resume, None
        checking = self._step_ns  # each boundary where time is virtual; else once a turn
        deadline: int | None = None  # of the local timer, as last looked at
        look_at = budget  # boundary at which it may have come
        while self.steps < budget:
            if lapic.deadline_ns is not deadline:
                deadline = lapic.deadline_ns
                look_at = self.steps + self._boundaries_until(deadline)
            if self.steps >= look_at:
                look_at = self.steps + self._boundaries_until(deadline)
                if self.steps >= look_at:
                    lapic.timer_expired(cpu.now())
            if self._nmi_latched and self._nmi_frame is None:
                if value is not None:
                    self._hold(value)
                    value = None
                self._nmi_latched = False
                self._nmi_frame = nmi(cpu)
                self._push(self._nmi_frame, False)
            elif lapic.intr and cpu.irqs_on:
                if value is not None:
                    self._hold(value)
                    value = None
                vector = lapic.ack()
                cpu.saved_if.append(True)
                cpu.irqs_on = False
                stack.append(interrupt(cpu, vector, self._arrived.pop(vector, 0)))
            if checking and (cpu.levels or cpu.preempt_count) and (wrong := broken(cpu)):
                raise InvariantError(f"{cpu.name}: {wrong}")
            if stack:
                frame: Context = stack[-1]
            else:
                current = cpu.current
                if current is cpu.idle and current.gen is None:
                    if cpu.rq.runnable:
                        schedule(cpu)
                        continue
                    cpu.need_resched = False
                    if cpu.tables_changed and cpu.boot:
                        self._leave_last_words()
                    cpu.enter_context(CONTEXT_IDLE)
                    cpu.timers.enter_idle()
                    self._dynticks += 1
                    self.words[_DYNTICKS] = self._dynticks
                    return lapic.deadline_ns
                assert current.gen is not None
                frame = current.gen
                current.user = False
            self.steps += 1
            cpu.steps = self.steps
            try:
                op = frame.send(value)
                if op is None and not checking and not self._nmi_latched:
                    # boundaries where nothing has come: the same frame goes on
                    last = min(look_at, budget)
                    while (
                        self.steps < last
                        and not (lapic.intr and cpu.irqs_on)
                        and lapic.deadline_ns is deadline
                    ):
                        self.steps += 1
                        op = frame.send(None)
                        if op is not None:
                            break
            except StopIteration as end:
                value = None
                if stack:
                    value = self._iret(end.value)
                    if not stack and cpu.need_resched and cpu.current.user:
                        schedule(cpu)
                elif cpu.current is cpu.idle:
                    cpu.idle.gen = None  # it has come up: from here on it idles
                else:
                    task_exit(cpu, cpu.current)
                    schedule(cpu)
                continue
            except KernelBugError:
                value = None
                if self._oops():
                    return IDLE
                continue
            if op is None:
                value = None
                continue
            if op is SCHEDULE:
                schedule(cpu)
                value = None
            elif op is USER:
                cpu.current.user = True
                if cpu.need_resched:
                    schedule(cpu)
                value = None
            elif type(op) is Pause:
                value = None
                if not (lapic.intr and cpu.irqs_on):
                    deadline = lapic.deadline_ns
                    self._pausing = True
                    return op.until_ns if deadline is None else min(deadline, op.until_ns)
            elif type(op) is SoftwareInterrupt:
                self._int_n(op)
                value = None
            elif op is PLAY_DEAD:
                self._play_dead()
                return IDLE
            else:
                value = self._access(op)
                if self._stall is not None:
                    return self._stall.deadline_ns
        self._resume = value
        return NOW

    def _play_dead(self) -> None:
        """Offline: halted until INIT and STARTUP. The process lives and answers snapshots."""
        cpu = self.cpu
        self._running = False
        self._dynticks += self._dynticks & 1
        self.words[_DYNTICKS] = self._dynticks
        self._arrived.clear()
        cpu.idle.gen = None
        cpu.lapic.deadline_ns = None
        cpu.irqs_on = False
        cpu.enter_context(CONTEXT_OFFLINE)
        self.words[_CPU_STATE] = 0

    def _boundaries_until(self, deadline: int | None) -> int:
        """Boundaries until the local timer is to be looked at again; 0: its time has come.

        Where each boundary has a price that is exact; else a look now and then must do, because
        reading the clock costs as much as a boundary."""
        if deadline is None:
            return BUDGET
        left_ns = deadline - self.cpu.now()
        if left_ns <= 0:
            return 0
        return -(-left_ns // self._step_ns) if self._step_ns else CLOCK_BOUNDARIES

    def _show(self, context: int) -> None:
        """Publish what the core is doing; once a turn."""
        words, cpu = self.words, self.cpu
        words[_CONTEXT] = context
        words[_DEPTH] = len(cpu.stack)
        words[_PREEMPT] = cpu.preempt_count
        words[_IF] = cpu.irqs_on
        words[_PENDING] = cpu.softirq.pending
        if (cpu.levels or cpu.preempt_count) and not self._step_ns and broken(cpu):
            words[_BROKEN] += 1

    # -- frames

    def _push(self, frame: Context, irqs_on: bool) -> None:
        """Interrupt what runs: its IF is kept for the iret."""
        self.cpu.saved_if.append(self.cpu.irqs_on)
        self.cpu.irqs_on = irqs_on
        self.cpu.stack.append(frame)

    def _hold(self, value: Any) -> None:
        """An interrupt comes between an access that has ended and the frame that waits for it."""
        self._held.append((len(self.cpu.stack), value))

    def _iret(self, returned: Any) -> Any:
        """Back to what was interrupted; what it is told: the result of its ``int n`` or of the
        access that had just ended, or None."""
        cpu = self.cpu
        cpu.irqs_on = cpu.saved_if.pop()
        if cpu.stack.pop() is self._nmi_frame:
            self._nmi_frame = None
        if self._held and self._held[-1][0] == len(cpu.stack):
            return self._held.pop()[1]
        return returned

    def _int_n(self, op: SoftwareInterrupt) -> None:
        """``int n``: straight through the gate, whatever IF and the local APIC say."""
        cpu = self.cpu
        try:
            gate, handler = cpu.idt.look_up(op.n, op.cpl)
        except GeneralProtectionError as fault:
            general_protection(cpu, fault.error_code, user=op.cpl > 0)
            self._oops()
            return
        self._push(handler(cpu, op.n), cpu.irqs_on and gate.type != INTERRUPT_GATE)

    def _oops(self) -> bool:
        """BUG: ends the task, or, in an interrupt, this CPU; True if it halts."""
        cpu = self.cpu
        if cpu.stack or cpu.in_interrupt():
            panic(cpu, "Fatal exception in interrupt")
            self._halted = True
            self.words[_ONLINE] = 0
            return True
        cpu.preempt_count = 0
        cpu.irqs_on = True
        boot.died(cpu, cpu.current, SIGSEGV)
        task_exit(cpu, cpu.current)
        schedule(cpu)
        return False

    # -- PCIe

    def _access(self, op: Any) -> int | None:
        """Start a non-posted access; the value at once if the link is lost."""
        cpu = self.cpu
        if type(op) is IoApicRead:
            self.words[_IOAPIC_READS] += 1
            self._wait_for(APIC, -1, MemRead(self._next_tag(), 0, op.offset))
            return None
        nic = op.nic
        if nic >= PORTS:  # whose configuration space is in the interrupt controller's process
            self.words[_PORT_ACCESSES] += 1
            node, function, _ = cpu.machine.pci_function(nic)
            self._wait_for(node, -1, _config_request(self._next_tag(), op, function))
            return None
        self.words[_READS + nic] += 1
        if cpu.lost_nics[nic]:
            self.words[_ONES + nic] += 1
            return ALL_ONES
        message: Any
        if isinstance(op, MmioRead):
            cpu.trace(_MMIO_READ, nic, op.offset)
            message = MemRead(self._next_tag(), op.bar, op.offset)
        else:
            message = _config_request(self._next_tag(), op)
        self._wait_for(self._nic_names[nic], nic, message)
        self.words[_STALLED_ON] = nic + 1
        return None

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) & 0xFFFF_FFFF
        return self._tag

    def _wait_for(self, node: str, nic: int, message: MemRead | CfgRead | CfgWrite) -> None:
        """Send it, and stall."""
        self.post(node, message)
        self._stall = _Stall(message.tag, nic, self.cpu.now() + self._timeout_ns)

    def _stall_over(self) -> bool:
        """End the stall if its time is out."""
        stall = self._stall
        assert stall is not None
        if self.clock() < stall.deadline_ns:
            return False
        self.words[_IOAPIC_TIMEOUTS if stall.nic < 0 else _TIMEOUTS + stall.nic] += 1
        self._end_stall(ALL_ONES)
        return True

    def _end_stall(self, value: int) -> None:
        self._stall = None
        self.words[_STALLED_ON] = 0
        self._resume = value

    def _on_completion(self, _sender: str, message: Completion) -> None:
        if self._stall is not None and message.tag == self._stall.tag:
            self._end_stall(message.value)

    def _on_peer_lost(self, sender: str, _event: PeerLost) -> None:
        nic = self._nics.get(sender)
        if nic is None:
            return
        self.cpu.lost_nics[nic] = True
        if self._stall is not None and self._stall.nic == nic:
            self.words[_ONES + nic] += 1
            self._end_stall(ALL_ONES)

    def _on_peer_back(self, sender: str, _event: PeerBack) -> None:
        nic = self._nics.get(sender)
        if nic is not None:
            self.cpu.lost_nics[nic] = False

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        """Posted writes that nobody took; a read among them fails as the link does."""
        nic = self._nics.get(peer)
        if nic is None:
            return
        for message in messages:
            if isinstance(message, MemWrite):
                self.words[_LOST + nic] += 1
            elif dead and self._stall is not None and self._stall.tag == message.tag:
                self.words[_ONES + nic] += 1
                self._end_stall(ALL_ONES)

    # -- interrupts

    def _on_interrupt(self, _sender: str, message: Interrupt) -> None:
        self.words[_LAPIC_IN] += 1
        lapic, mode = self.cpu.lapic, message.delivery_mode
        if mode in (apic_modes.FIXED, apic_modes.LOWEST):
            if message.vector < 16:
                self.cpu.apic.received_illegal()
            if lapic.accept(message.vector, message.trigger_mode == 1):
                self._arrived[message.vector] = self.cpu.now()
        elif mode == apic_modes.INIT:
            self.words[_LAPIC_OTHER] += 1
            if self.cpu.number and not self._running:
                lapic.reset()
                self.cpu.apic.reset()
        elif mode == apic_modes.STARTUP:
            self.words[_LAPIC_OTHER] += 1
            if not self._running:
                self._power_on()
        elif mode == apic_modes.NMI:
            self.words[_LAPIC_OTHER] += 1
            self._nmi_latched = True  # a second one before the first is taken merges with it
        elif mode in (apic_modes.SMI, apic_modes.EXTINT):
            # no firmware that handles SMIs, and no 8259 that would say the vector of an ExtINT
            self.words[_LAPIC_OTHER] += 1
        else:
            self.words[_LAPIC_ILLEGAL] += 1

    def _send_icr(self, icr: int) -> None:
        """Software wrote the interrupt command register itself."""
        self.words[_IPI_SENT] += 1
        self.post(APIC, IcrWrite(icr))

    def _broadcast_eoi(self, vector: int) -> None:
        """The local APIC ended a level-triggered vector."""
        self.words[_EOI_SENT] += 1
        self.post(APIC, EoiBroadcast(vector))

    def _tell_apic_id(self, told: LocalApicId) -> None:
        self.post(APIC, told)

    # -- the orchestrator

    def _on_snapshot(self, sender: str, message: Snapshot) -> None:
        began = self.clock()
        try:
            value = boot.snapshot(self.cpu, message.what)
            data: bytes = msgpack.packb(value)
            ok = 1
            if len(data) > SNAPSHOT_BYTES_MAX:
                ok, data = 0, msgpack.packb(f"{message.what}: more than 64 KiB")
        except LookupError as error:
            ok, data = 0, msgpack.packb(str(error.args[0]))
        self.post(sender, Reply(message.request, ok, data))
        self.words[_CONTROL_NS] += self.clock() - began

    def _leave_last_words(self) -> None:
        """Store the tables where they can be read when this CPU is dead."""
        self.cpu.tables_changed = False
        data = msgpack.packb(boot.snapshot(self.cpu, "kernel"))
        if len(data) <= SNAPSHOT_BYTES_MAX:
            self._last_words.store(data)

    def _on_spawn(self, _sender: str, message: Spawn) -> None:
        boot.spawn(self.cpu, *message)

    def _on_signal(self, _sender: str, message: Signal) -> None:
        boot.signal(self.cpu, message.request, message.signo)
