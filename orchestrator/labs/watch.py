"""What the flight recorders say while a lab plays: collected, printed, kept for the picture."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from bus.recorder import Record, Recorder
from nodes.cpu.kernel.params import PRESETS, with_overrides
from orchestrator.errors import OK
from orchestrator.labs import eventtable, workers
from orchestrator.labs.contexts import PID_MASK
from orchestrator.labs.contexts import WANTED as CONTEXT_EVENTS
from orchestrator.labs.eventtable import LabWorld
from orchestrator.labs.file import Lab
from orchestrator.machines.machine import Machine
from orchestrator.scenarios.expect import ACCESSED
from orchestrator.session import Session, Wait, drive
from orchestrator.views import accesses
from orchestrator.views.follow import kind_of
from orchestrator.views.followtable import World

#: Events that every lab records of a CPU: the picture and the quantities are made of them.
_ALWAYS = {
    "softirq_raise", "sched_wakeup", "sched_wakeup_new", "ipi_send", "napi_poll",
    "sys_sendmsg", "recvmsg",
}  # fmt: skip
_WAKEUP_NEW = eventtable.EVENTS["cpu"]["sched_wakeup_new"].number


class Event(NamedTuple):
    """One record, and whose it is."""

    time_ns: int
    order: int
    node: str
    kind: str
    record: Record


class Watch:
    """Turns recorders on for a lab, collects their records, turns them off."""

    def __init__(self, machine: Machine, lab: Lab) -> None:
        self.machine = machine
        settings = machine.settings
        self._kinds = {name: kind_of(settings, name) for name in settings.node_names}
        self._recorders = {
            name: Recorder(machine.ram.recorder_words(name)) for name in settings.node_names
        }
        self._symbols: dict[str, list[str]] = {name: [] for name in settings.cpu_names}
        self._next = {name: recorder.count for name, recorder in self._recorders.items()}
        self._printed = eventtable.chosen(lab.show)
        self._show, self._nodes = lab.show, lab.nodes
        named = {lab.zoom.partition(",")[0]} | _named_in(lab)
        self._wanted = {
            kind: self._printed[kind] | {table[name].number for name in named if name in table}
            for kind, table in eventtable.EVENTS.items()
        }
        cpu = eventtable.EVENTS["cpu"]
        always = [*CONTEXT_EVENTS, *_ALWAYS]
        if "workers" in lab.pictures:
            always += workers.WANTED
        if "registers" in lab.pictures or _counts_accesses(lab):
            always += accesses.EVENTS
        self._wanted["cpu"] |= {cpu[name].number for name in always if name in cpu}
        self._masks = {
            kind: sum(1 << number for number in sorted(numbers))
            for kind, numbers in self._wanted.items()
        }
        params = with_overrides(PRESETS[settings.era], settings.overrides)
        bond = settings.bond.name if settings.bond else ""
        self._irqs: dict[int, str] = {}
        self._devices: dict[int, str] = {}
        self._comms: dict[int, str] = {}
        follow = World(params, self._devices, self._irqs, bond, settings.era)
        self.world = LabWorld(follow, params, self._irqs, self._comms, settings.nic_names)
        self.events: list[Event] = []
        self.lost = 0
        self._set = {
            name: self._masks[self._kinds[name]] & ~recorder.mask
            for name, recorder in self._recorders.items()
        }
        self._arm()

    def _arm(self) -> None:
        """A node that was started again begins with its own mask."""
        for name, recorder in self._recorders.items():
            wanted = self._masks[self._kinds[name]]
            if recorder.mask & wanted != wanted:
                recorder.mask |= wanted

    def stop(self) -> None:
        """Take away the bits that were set here; somebody else may be recording too."""
        for name, recorder in self._recorders.items():
            recorder.mask &= ~self._set[name]

    def pull(self) -> list[Event]:
        """What was recorded since the last call, in the order of time."""
        self._arm()
        found: list[Event] = []
        for name, recorder in self._recorders.items():
            kind, first = self._kinds[name], self._next[name]
            if recorder.count == first:
                continue
            records, self._next[name], lost = recorder.read(first)
            self.lost += lost
            wanted = self._wanted[kind]
            found += [
                Event(record.time_ns, number, name, kind, record)
                for number, record in enumerate(records, first + lost)
                if record.event in wanted
            ]
        found.sort(key=lambda event: (event.time_ns, event.node, event.order))
        self.events += found
        self._name_new_tasks(found)
        return found

    def _name_new_tasks(self, events: list[Event]) -> None:
        """A task's first wake-up brings its name, as a number of its CPU's symbols."""
        for event in events:
            if event.kind != "cpu" or event.record.event != _WAKEUP_NEW:
                continue
            symbols, number = self._symbols[event.node], event.record.b
            if number >= len(symbols):
                self._ask_symbols(event.node)
            if number < len(symbols):
                self._comms[event.record.a & PID_MASK] = symbols[number]

    def _ask_symbols(self, cpu: str) -> None:
        session = Session(self.machine)

        def gather() -> Generator[Wait, None, int]:
            answer = yield from session.answer(self.machine.ask(cpu, "symbols"))
            if answer.ok:
                self._symbols[cpu][:] = answer.value
            return OK

        if self.machine.state(cpu).alive:
            drive(session, gather())

    def worker_pictures(self, begin_ns: int, end_ns: int) -> list[workers.Picture]:
        """What the workers of each CPU did between two times, where works of modules ran."""
        found = []
        for cpu, symbols in self._symbols.items():
            records = [
                e.record for e in self.events if e.node == cpu and begin_ns <= e.time_ns < end_ns
            ]
            self._ask_symbols(cpu)
            shown = workers.picture(cpu, records, symbols, self._comms)
            if shown is not None:
                found.append(shown)
        return found

    def texts(self, event: Event) -> tuple[str, ...]:
        """The lines to print for an event; none if the lab does not show it."""
        if event.record.event not in self._printed[event.kind]:
            return ()
        if self._nodes and event.node not in self._nodes:
            return ()
        symbols: list[str] = []
        if event.kind == "cpu":
            symbols = self._symbols[event.node]
            if max(eventtable.symbols_of(event.record)) >= max(1, len(symbols)):
                self._ask_symbols(event.node)
        return eventtable.lines_of(event.kind, event.record, self.world, self._show, symbols)

    def learn(self) -> None:
        """Ask the CPUs for the names of interrupts, devices and tasks."""
        session = Session(self.machine)
        settings = self.machine.settings

        def gather() -> Generator[Wait, None, int]:
            for cpu in settings.cpu_names:
                if not self.machine.state(cpu).alive:
                    continue
                state = yield from session.answer(self.machine.ask(cpu, "state"))
                if state.ok:
                    self._comms.update({row[0]: row[1] for row in state.value["tasks"]})
                    if cpu == settings.cpu_names[0]:
                        ifindexes = state.value["ifindexes"].items()
                        self._devices.update({index: name for name, index in ifindexes})
                if cpu == settings.cpu_names[0]:
                    kernel = yield from session.answer(self.machine.ask(cpu, "kernel"))
                    if kernel.ok:
                        irqs = kernel.value["irqs"]
                        self._irqs.update({row[0]: ", ".join(row[3]) for row in irqs})
            return OK

        drive(session, gather())


def _named_in(lab: Lab) -> set[str]:
    """Trace events that expectations and answers ask for."""
    asked = _asked(lab)
    return {name for name in eventtable.EVENTS["cpu"] if f"({name}" in asked}


def _counts_accesses(lab: Lab) -> bool:
    asked = _asked(lab)
    return any(f"{name}(" in asked for name in ACCESSED)


def _asked(lab: Lab) -> str:
    """Expectations and answers."""
    texts = [e.text for step in lab.scenario.steps for e in step.expect]
    return " ".join([*texts, *(question.answer for question in lab.questions)])
