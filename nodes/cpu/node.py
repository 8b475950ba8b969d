"""A CPU on the bus: its core, its local APIC, and what the orchestrator asks of its kernel.

A turn takes the inbox (messages of the interrupt controller, completions, links that go and come,
questions), lets the core run up to its budget unless it stalls, and shows in the page what the core
is doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from bus.messages import (
    SNAPSHOT_BYTES_MAX,
    Completion,
    EoiBroadcast,
    IcrWrite,
    Interrupt,
    LocalApicId,
    PeerBack,
    PeerLost,
    Reply,
    Signal,
    Snapshot,
    Spawn,
)
from bus.node import IDLE, Inbox, Node, Surroundings
from bus.recorder import always_mask
from nodes.cpu import lapic as apic_modes
from nodes.cpu.core import Core
from nodes.cpu.invariants import broken
from nodes.cpu.kernel import boot
from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.cpu.kernel.percpu import CONTEXT_STALLED, Cpu
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
from nodes.machine import APIC, MachineSettings

_BOUNDARIES = CPU_SCHEMA.index("boundaries")
_CONTEXT = CPU_SCHEMA.index("context")
_DEPTH = CPU_SCHEMA.index("depth")
_PREEMPT = CPU_SCHEMA.index("preempt_count")
_IF = CPU_SCHEMA.index("irq_enabled")
_PENDING = CPU_SCHEMA.index("softirq_pending")
_LAPIC_IN = CPU_SCHEMA.index("lapic_in")
_LAPIC_ILLEGAL = CPU_SCHEMA.index("lapic_illegal")
_LAPIC_OTHER = CPU_SCHEMA.index("lapic_other")
_IPI_SENT = CPU_SCHEMA.index("ipi_sent")
_EOI_SENT = CPU_SCHEMA.index("eoi_sent")
_BROKEN = CPU_SCHEMA.index("broken_invariants")
_CONTROL_NS = CPU_SCHEMA.index("control_ns")


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
        self._step_ns = around.step_ns
        self._core = core = Core(self.cpu, around.step_ns)
        core.settled = self._leave_last_words
        self._last_words = around.ram.last_words()
        #: called after each instruction boundary while somebody steps through the simulation
        self.watch: Callable[[], None] | None = None
        self._handlers: dict[type, Callable[[str, Any], None]] = {
            Interrupt: self._on_interrupt,
            Completion: core.accesses.completed,
            PeerLost: core.accesses.peer_lost,
            PeerBack: core.accesses.peer_back,
            Snapshot: self._on_snapshot,
            Spawn: self._on_spawn,
            Signal: self._on_signal,
        }
        boot.prepare(self.cpu)
        if number == 0:
            core.power_on()

    # -- the turn

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        cpu, core = self.cpu, self._core
        self.steps = cpu.steps = 0
        handlers = self._handlers
        for sender, message in inbox:
            handler = handlers.get(type(message))
            if handler is not None:
                handler(sender, message)
        cpu.trace_mask = cpu.recorder.mask
        if cpu.ipis_posted:
            cpu.ipis_posted.clear()
        if not core.running or core.halted:
            return IDLE
        stall = core.accesses.stall
        if stall is not None and not core.accesses.timed_out(stall):
            self._show(CONTEXT_STALLED)
            return stall.deadline_ns
        wake = core.run(budget) if self.watch is None else core.run_watched(budget, self.watch)
        self.steps = cpu.steps
        self.words[_BOUNDARIES] += cpu.steps
        self._show(cpu.context if core.accesses.stall is None else CONTEXT_STALLED)
        return wake

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

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        self._core.accesses.undelivered(peer, messages, dead)

    # -- interrupts

    def _on_interrupt(self, _sender: str, message: Interrupt) -> None:
        self.words[_LAPIC_IN] += 1
        lapic, mode = self.cpu.lapic, message.delivery_mode
        if mode in (apic_modes.FIXED, apic_modes.LOWEST):
            if message.vector < 16:
                self.cpu.apic.received_illegal()
            if lapic.accept(message.vector, message.trigger_mode == 1):
                self._core.arrived[message.vector] = self.cpu.now()
        elif mode == apic_modes.INIT:
            self.words[_LAPIC_OTHER] += 1
            if self.cpu.number and not self._core.running:
                lapic.reset()
                self.cpu.apic.reset()
        elif mode == apic_modes.STARTUP:
            self.words[_LAPIC_OTHER] += 1
            if not self._core.running:
                self._core.power_on()
        elif mode == apic_modes.NMI:
            self.words[_LAPIC_OTHER] += 1
            self._core.nmi_latched = True
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
