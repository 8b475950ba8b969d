"""A core: instruction boundaries, the stack of contexts, and what may come in between two of them.

It knows nothing of Linux but how its contexts are written (``kernel.percpu``). It resumes the
topmost context again and again; between two resumptions lies an instruction boundary, where it
first takes the local timer's deadline, then an NMI, and then, if IF is set, the highest vector that
the local APIC requests. Whoever comes in is a frame on top of what ran; its iret restores IF, and
tells the frame below what that one was to be told when it was interrupted. ``int n`` goes through
the table of gates and asks nobody.

``run`` ends when there is nothing to run, at a stall (``nodes.cpu.nonposted``), or with the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bus.node import BUDGET, IDLE, NOW
from nodes.cpu.idt import INTERRUPT_GATE, GeneralProtectionError
from nodes.cpu.invariants import InvariantError, broken
from nodes.cpu.kernel import boot
from nodes.cpu.kernel.bug import KernelBugError, panic
from nodes.cpu.kernel.irq.entry import interrupt
from nodes.cpu.kernel.irq.nmi import nmi
from nodes.cpu.kernel.percpu import (
    CONTEXT_IDLE,
    CONTEXT_OFFLINE,
    PLAY_DEAD,
    SCHEDULE,
    USER,
    Context,
    Pause,
    SoftwareInterrupt,
)
from nodes.cpu.kernel.sched import SIGSEGV, schedule, task_exit
from nodes.cpu.kernel.traps import general_protection
from nodes.cpu.nonposted import NonPosted
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Boundaries between two looks at the clock where time passes by itself.
CLOCK_BOUNDARIES = 8

_DYNTICKS = CPU_SCHEMA.index("rcu_dynticks")
_ONLINE = CPU_SCHEMA.index("online")
_CPU_STATE = CPU_SCHEMA.index("cpu_state")


class Core:
    """What executes the contexts of one CPU."""

    def __init__(self, cpu: Cpu, step_ns: int) -> None:
        self._cpu = cpu
        self._words = cpu.words
        self._step_ns = step_ns
        self.accesses = NonPosted(cpu, self._tell)
        self.running = False  # since INIT and STARTUP, or power-on; not while offline
        self.halted = False  # after a panic
        self.nmi_latched = False  # a second one before the first is taken merges with it
        self._nmi_frame: Context | None = None  # no other NMI comes in while it stands
        self.arrived: dict[int, int] = {}  # clock at which a vector's message came
        self._told: Any = None  # what the frame that runs next is told
        #: called when the CPU goes idle after its tables have changed
        self.settled: Callable[[], None] = lambda: None

    def power_on(self) -> None:
        """The boot CPU at power-on, another at its STARTUP message, each time it comes online."""
        self.running = True
        self._words[_DYNTICKS] |= 1  # odd: not idle
        boot.start(self._cpu)

    def _tell(self, value: int) -> None:
        self._told = value

    # -- instruction boundaries

    def run(self, budget: int) -> int | None:
        """Pass boundaries up to number ``budget`` of this turn; returns as ``Node.turn`` does."""
        cpu, lapic, words = self._cpu, self._cpu.lapic, self._words
        stack, saved = cpu.stack, cpu.saved
        value, self._told = self._told, None
        if not words[_DYNTICKS] & 1:
            words[_DYNTICKS] += 1
        checking = self._step_ns  # each boundary where time is virtual; else once a turn
        deadline: int | None = None  # of the local timer, as last looked at
        look_at = budget  # boundary at which it may have come
        while cpu.steps < budget:
            if lapic.deadline_ns is not deadline:
                deadline = lapic.deadline_ns
                look_at = cpu.steps + self._boundaries_until(deadline)
            if cpu.steps >= look_at:
                look_at = cpu.steps + self._boundaries_until(deadline)
                if cpu.steps >= look_at:
                    lapic.timer_expired(cpu.now())
            frame: Context | None = None
            if self.nmi_latched and self._nmi_frame is None:
                self.nmi_latched = False
                frame = self._nmi_frame = nmi(cpu)
            elif lapic.intr and cpu.irqs_on:
                vector = lapic.ack()
                frame = interrupt(cpu, vector, self.arrived.pop(vector, 0))
            if frame is not None:
                saved.append((cpu.irqs_on, value))
                stack.append(frame)
                cpu.irqs_on, value = False, None
            if checking and (cpu.levels or cpu.preempt_count) and (wrong := broken(cpu)):
                raise InvariantError(f"{cpu.name}: {wrong}")
            if stack:
                frame = stack[-1]
            elif (frame := cpu.current.gen) is not None:
                cpu.current.user = False
            elif cpu.rq.runnable:  # the idle task alone has no generator
                schedule(cpu)
                continue
            else:
                self._idle()
                return lapic.deadline_ns
            cpu.steps += 1
            try:
                op = frame.send(value)
                if op is None and not checking and not self.nmi_latched:
                    # boundaries where nothing has come: the same frame goes on
                    last = min(look_at, budget)
                    while (
                        cpu.steps < last
                        and not (lapic.intr and cpu.irqs_on)
                        and lapic.deadline_ns is deadline
                    ):
                        cpu.steps += 1
                        op = frame.send(None)
                        if op is not None:
                            break
            except StopIteration as end:
                value = None
                if stack:
                    value = self._iret(end.value)
                else:
                    self._task_ended()
                continue
            except KernelBugError:
                value = None
                self._oops()
                if self.halted:
                    return IDLE
                continue
            value = None
            if op is None:
                continue
            if op is SCHEDULE:
                schedule(cpu)
            elif op is USER:
                cpu.current.user = True
                if cpu.need_resched:
                    schedule(cpu)
            elif type(op) is Pause:
                if not (lapic.intr and cpu.irqs_on):
                    deadline = lapic.deadline_ns
                    return op.until_ns if deadline is None else min(deadline, op.until_ns)
            elif type(op) is SoftwareInterrupt:
                self._int_n(op)
                if self.halted:
                    return IDLE
            elif op is PLAY_DEAD:
                self._play_dead()
                return IDLE
            else:
                value = self.accesses.start(op)
                if self.accesses.stall is not None:
                    return self.accesses.stall.deadline_ns
        self._told = value
        return NOW

    def run_watched(self, budget: int, watch: Callable[[], None]) -> int | None:
        """As ``run``, boundary by boundary: the same turn, looked at from outside."""
        wake: int | None = NOW
        while wake == NOW and self._cpu.steps < budget:
            wake = self.run(self._cpu.steps + 1)
            watch()
        return wake

    def _boundaries_until(self, deadline: int | None) -> int:
        """Boundaries until the local timer is to be looked at again; 0: its time has come.

        Where each boundary has a price that is exact; else a look now and then must do, because
        reading the clock costs as much as a boundary."""
        if deadline is None:
            return BUDGET
        left_ns = deadline - self._cpu.now()
        if left_ns <= 0:
            return 0
        return -(-left_ns // self._step_ns) if self._step_ns else CLOCK_BOUNDARIES

    # -- frames

    def _iret(self, returned: Any) -> Any:
        """Back to what was interrupted, from here on with its own IF; what that is told: what it
        waited for when it was interrupted (an access that had just ended), or the result of its
        ``int n``, or None."""
        cpu = self._cpu
        cpu.irqs_on, told = cpu.saved.pop()
        if cpu.stack.pop() is self._nmi_frame:
            self._nmi_frame = None
        if not cpu.stack and cpu.need_resched and cpu.current.user:
            schedule(cpu)  # the return to user mode is a place to be preempted
        return returned if told is None else told

    def _int_n(self, op: SoftwareInterrupt) -> None:
        """``int n``: straight through the gate, whatever IF and the local APIC say."""
        cpu = self._cpu
        try:
            gate, handler = cpu.idt.look_up(op.n, op.cpl)
        except GeneralProtectionError as fault:
            general_protection(cpu, fault.error_code, user=op.cpl > 0)
            self._oops()
            return
        cpu.saved.append((cpu.irqs_on, None))
        cpu.stack.append(handler(cpu, op.n))
        cpu.irqs_on = cpu.irqs_on and gate.type != INTERRUPT_GATE

    def _task_ended(self) -> None:
        """The current task's code has returned."""
        cpu = self._cpu
        if cpu.current is cpu.idle:
            cpu.idle.gen = None  # the CPU has come up: from here on it idles
        else:
            task_exit(cpu, cpu.current)
            schedule(cpu)

    def _oops(self) -> None:
        """BUG: ends the task, or, in an interrupt, this CPU."""
        cpu = self._cpu
        if cpu.stack or cpu.in_interrupt():
            panic(cpu, "Fatal exception in interrupt")
            self.halted = True
            self._words[_ONLINE] = 0
            cpu.enter_context(CONTEXT_IDLE)
            return
        cpu.preempt_count = 0
        cpu.irqs_on = True
        boot.died(cpu, cpu.current, SIGSEGV)
        task_exit(cpu, cpu.current)
        schedule(cpu)

    # -- nothing to run

    def _idle(self) -> None:
        """hlt: until the next vector, or the local timer's deadline."""
        cpu = self._cpu
        cpu.need_resched = False
        if cpu.tables_changed and cpu.boot:
            self.settled()
        cpu.enter_context(CONTEXT_IDLE)
        cpu.timers.enter_idle()
        self._words[_DYNTICKS] += 1

    def _play_dead(self) -> None:
        """Offline: halted until INIT and STARTUP. The process lives and answers snapshots."""
        cpu = self._cpu
        self.running = False
        self._words[_DYNTICKS] += self._words[_DYNTICKS] & 1
        self.arrived.clear()
        cpu.idle.gen = None
        cpu.lapic.deadline_ns = None
        cpu.irqs_on = False
        cpu.enter_context(CONTEXT_OFFLINE)
        self._words[_CPU_STATE] = 0
