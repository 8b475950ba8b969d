"""Every instruction boundary of a simulated run, kept, so that one can step forward and back.

The simulation is run once with somebody looking at each boundary (``CpuNode.watch``); looking
changes nothing. A boundary is a ``Moment``: what each context on that CPU was in, from the
outermost function to the innermost (the frames of the generators), preempt_count, IF, pending
softirqs.
Messages are kept with the times of leaving and arriving, so that those under way at a moment are
known. Only the first ``MOMENTS_MAX`` boundaries are kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from bus.messages import (
    EoiBroadcast,
    EthFrame,
    IcrWrite,
    Interrupt,
    IntxMessage,
    MemRead,
    MemWrite,
    MsiWrite,
)
from nodes.cpu.kernel.percpu import CONTEXT_IDLE, Context, Cpu
from nodes.cpu.node import CpuNode
from orchestrator.machines.simulated import SimulatedMachine

MOMENTS_MAX = 300_000
#: What our functions are called in Linux, where it is not the same.
_LINUX_NAMES = {
    "_next_work": "",
    "_execute": "",
    "_run": "",
    "_main": "",
    "run_to_end": "",
    "to_end": "",
    "Ping.run": "",
    "Ping.send": "sendmsg",
    "Ping.receive": "recvmsg",
    "interrupt": "irq entry",
    "_deliver": "__netif_receive_skb",
}


class Moment(NamedTuple):
    """A CPU just after an instruction boundary."""

    time_ns: int
    order: int
    cpu: str
    context: int  # index into CONTEXTS
    #: contexts, the task first; of each the functions, the outermost first
    stack: tuple[tuple[str, ...], ...]
    preempt_count: int
    irqs_on: bool
    pending: int
    pid: int
    comm: str

    def same_state(self, other: Moment) -> bool:
        """Nothing a person would call an event lies between the two."""
        return (self.context, len(self.stack), self.pid) == (
            other.context, len(other.stack), other.pid
        )  # fmt: skip


class Flight(NamedTuple):
    """A message under way."""

    left_ns: int
    arrives_ns: int
    sender: str
    receiver: str
    text: str


class Microscope:
    """The recording; after the run ``moments`` are in the order of time."""

    def __init__(self, limit: int = MOMENTS_MAX) -> None:
        self.moments: list[Moment] = []
        self.overflowed = False
        self.initial: dict[str, Moment] = {}
        self._limit = limit
        self._machine: SimulatedMachine | None = None
        self._order = 0
        self._previous: dict[str, Moment] = {}
        self._chains: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._flights: list[Flight] = []
        self._left: list[int] = []
        self._longest_ns = 0
        self._last: dict[str, int] = {}
        self._index: dict[str, list[int]] = {}

    def attach(self, machine: SimulatedMachine) -> None:
        """Look from now on."""
        self._machine = machine
        machine.simulation.flights = []
        for name in machine.settings.cpu_names:
            node = machine.simulation.node(name)
            assert isinstance(node, CpuNode)
            self.initial[name] = self._moment(node.cpu)
            node.watch = partial(self._look, node.cpu)

    def detach(self) -> None:
        """Look no more; sort what was seen."""
        machine = self._machine
        assert machine is not None
        for name in machine.settings.cpu_names:
            if machine.simulation.alive(name):
                node = machine.simulation.node(name)
                assert isinstance(node, CpuNode)
                node.watch = None
        flights, machine.simulation.flights = machine.simulation.flights or [], None
        self._flights = sorted(Flight(*flight[:4], _text(flight[4])) for flight in flights)
        self._left = [flight.left_ns for flight in self._flights]
        self._longest_ns = max((f.arrives_ns - f.left_ns for f in self._flights), default=0)
        self.moments.sort(key=lambda moment: (moment.time_ns, moment.order))
        for number, moment in enumerate(self.moments):
            self._index.setdefault(moment.cpu, []).append(number)

    def _look(self, cpu: Cpu) -> None:
        if len(self.moments) >= self._limit:
            self.overflowed = True
            return
        moment = self._moment(cpu)
        before = self._previous.get(cpu.name)
        if before is not None and moment.context == CONTEXT_IDLE and moment[2:] == before[2:]:
            return  # it sleeps on
        self._previous[cpu.name] = moment
        self.moments.append(moment)

    def _moment(self, cpu: Cpu) -> Moment:
        self._order += 1
        task = cpu.current
        contexts = [self._chain(task.gen)] if task is not cpu.idle and task.gen else [()]
        contexts += [self._chain(frame) for frame in cpu.stack]
        idle = task is cpu.idle and not cpu.stack
        return Moment(
            cpu.now(),
            self._order,
            cpu.name,
            CONTEXT_IDLE if idle else cpu.context,
            tuple(contexts),
            cpu.preempt_count,
            cpu.irqs_on,
            cpu.softirq.pending,
            task.pid,
            task.comm,
        )

    def _chain(self, frame: Context | None) -> tuple[str, ...]:
        """Functions of one context, the outermost first."""
        codes = []
        generator: Any = frame
        while getattr(generator, "gi_frame", None) is not None:
            codes.append(generator.gi_code)
            generator = generator.gi_yieldfrom
        key = tuple(codes)
        known = self._chains.get(key)
        if known is None:
            names = (_name(code.co_qualname) for code in codes)
            known = self._chains[key] = tuple(name for name in names if name)
        return known

    # -- reading

    def at(self, number: int) -> dict[str, Moment]:
        """Every CPU as it was at boundary ``number``."""
        found = dict(self.initial)
        for cpu, numbers in self._index.items():
            at = bisect_right(numbers, number)
            if at:
                found[cpu] = self.moments[numbers[at - 1]]
        return found

    def before(self, number: int) -> Moment:
        """The same CPU one boundary of its own earlier."""
        cpu = self.moments[number].cpu
        numbers = self._index[cpu]
        at = bisect_left(numbers, number)
        return self.moments[numbers[at - 1]] if at else self.initial[cpu]

    def under_way(self, time_ns: int) -> list[Flight]:
        """Messages that have left and not arrived."""
        first = bisect_left(self._left, time_ns - self._longest_ns)
        last = bisect_right(self._left, time_ns)
        return [f for f in self._flights[first:last] if f.arrives_ns > time_ns]

    def first_at(self, time_ns: int) -> int:
        """Number of the first boundary from a time on."""
        at = bisect_left(self.moments, time_ns, key=lambda moment: moment.time_ns)
        return min(at, max(0, len(self.moments) - 1))

    def next_event(self, number: int, forward: bool = True) -> int:
        """The next boundary at which a context begins or ends or the task changes."""
        step = 1 if forward else -1
        number += step
        while 0 <= number < len(self.moments):
            if not self.moments[number].same_state(self.before(number)):
                return number
            number += step
        return min(max(number, 0), len(self.moments) - 1)


def _name(qualified: str) -> str:
    if qualified in _LINUX_NAMES:
        return _LINUX_NAMES[qualified]
    name = qualified.rsplit(".", 1)[-1]
    return name if name.startswith("__") else name.removeprefix("_")


#: A message in a few words, by its class.
_TEXTS: dict[type, Callable[[Any], str]] = {
    MemWrite: lambda m: f"MemWrite {m.offset:#07x} = {m.value:#x}",
    MemRead: lambda m: f"MemRead {m.offset:#07x}",
    MsiWrite: lambda m: f"MSI {m.address:#x} = {m.data:#06x}",
    Interrupt: lambda m: f"Interrupt vector {m.vector:#04x}",
    IntxMessage: lambda m: f"{'Assert' if m.asserted else 'Deassert'}_INT{'ABCD'[m.pin - 1]}",
    EoiBroadcast: lambda m: f"EOI, vector {m.vector:#04x}",
    IcrWrite: lambda m: f"ICR write, vector {m.icr & 0xFF:#04x}",
    EthFrame: lambda m: f"frame of {len(m.frame)} bytes",
}


def _text(message: Any) -> str:
    known = _TEXTS.get(type(message))
    return known(message) if known is not None else type(message).__name__
