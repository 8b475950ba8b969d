"""Two benches for the CPU's rooms.

``BareCpu``: one CPU node without devices, apic or LAN; the test hands it vectors, spawns generators
as tasks, and moves the clock. ``Box``: a whole machine on the simulation, with the few things that
a person at its console would do.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from bus.messages import Interrupt, MemWrite
from bus.node import NOW, Surroundings
from bus.ram import Ram, TapPacket
from nodes.cpu.kernel import procfs
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IrqDesc
from nodes.cpu.kernel.irq.flow import irq_alloc_desc, irq_set_chip_and_handler
from nodes.cpu.kernel.irq.manage import request_irq
from nodes.cpu.kernel.irq.x86_chips import msix_chip
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import Task, kthread_run
from nodes.cpu.kernel.softirq import open_softirq
from nodes.cpu.node import CpuNode
from nodes.cpu.page import CPU_SCHEMA, DROP_REASONS
from nodes.machine import BondSettings, GatewaySettings, LanSettings, MachineSettings, NicSettings
from orchestrator.machines.machine import Job
from orchestrator.machines.simulated import SimulatedMachine

START_NS = 1_000_000_000
STEP_NS = 250
MS = 1_000_000
SECOND = 1_000_000_000
ERAS = ("2.6.18", "3.10", "6.1")
GATEWAY = "192.168.1.1"
SIGINT = 2


class BareCpu:
    """A CPU of a machine without NICs; ``outbox`` collects what it posts, by peer."""

    def __init__(
        self,
        era: str = "6.1",
        *,
        number: int = 0,
        cpus: int = 1,
        nics: int = 0,
        overrides: tuple[tuple[str, str], ...] = (),
        ram: Ram | None = None,
        boot: bool = True,
        seed: int = 1,
    ) -> None:
        self.settings = MachineSettings(
            name="m1",
            era=era,
            cpus=cpus,
            nics=tuple(
                NicSettings(f"eth{n}", n, bytes((0, 0x1B, 0x21, 0, 0, n + 1))) for n in range(nics)
            ),
            bond=None,
            gateway=GatewaySettings(),
            overrides=overrides,
            completion_timeout_ms=50,
            ioapics=0,
        )
        self.ns = START_NS
        self.ram = ram or Ram.anonymous(self.settings.layout())
        self.ram.boot_ns = START_NS
        name = f"cpu{number}"
        around = Surroundings(
            name, 1, lambda: self.ns, self.ram, self.ram.page(name), random.Random(seed), STEP_NS
        )
        self.node = CpuNode(around, self.settings, number)
        self.cpu: Cpu = self.node.cpu
        self.page = self.node.page
        self.outbox: dict[str, list[Any]] = {}
        self.wake: int | None = NOW
        if boot and number == 0 and cpus == 1:
            self.settle()
            self.outbox.clear()

    # -- time

    def turn(self, *inbox: tuple[str, Any], budget: int = 64) -> int | None:
        """One turn; the clock moves by the boundaries it passed."""
        node = self.node
        self.wake = wake = node.turn(list(inbox), budget)
        self.ns += node.steps * STEP_NS
        if node.outbox:
            for peer, messages in node.outbox.items():
                self.outbox.setdefault(peer, []).extend(messages)
            node.outbox = {}
        return wake

    def step(self, count: int = 1) -> None:
        """Pass this many instruction boundaries."""
        for _ in range(count):
            self.turn(budget=1)

    def settle(self, limit_ns: int = 10 * SECOND) -> None:
        """Run until nothing is to be done now (sleeping timers stay asleep)."""
        end = self.ns + limit_ns
        while self.turn() == NOW:
            assert self.ns < end, "it never comes to rest"

    def run_for(self, duration_ns: int) -> None:
        """Run, sleeping from deadline to deadline."""
        end = self.ns + duration_ns
        self.turn()
        while self.ns < end:
            if self.wake is None or self.wake >= end:
                self.ns = end
                break
            self.ns = max(self.ns, self.wake)
            self.turn()

    def run_until(self, done: Callable[[], bool], limit: int = 200_000) -> None:
        """Boundary by boundary until ``done()``."""
        for _ in range(limit):
            if done():
                return
            wake = self.turn(budget=1)
            if wake is not None and wake > self.ns:
                self.ns = wake
        raise AssertionError("it did not happen")

    # -- what a test does to it

    def vector(self, *vectors: int) -> None:
        """Interrupt messages arrive; they are taken when the CPU runs next."""
        self.wake = self.node.turn([("apic", Interrupt(v, 0, 0)) for v in vectors], 0)

    def task(self, gen: Context, comm: str = "test", nice: int = 0) -> Task:
        return kthread_run(self.cpu, comm, gen, nice)

    def irq(
        self, vector: int, handler: Callable[..., Any] | None = None, irq: int | None = None
    ) -> IrqDesc:
        """An MSI line on ``vector``; with ``handler`` None it has no action yet."""
        irq = vector if irq is None else irq
        desc = irq_alloc_desc(self.cpu, irq, 0, vector, self.cpu.number)
        irq_set_chip_and_handler(self.cpu, desc, msix_chip(self.cpu), "edge")
        if handler is not None:
            assert request_irq(self.cpu, irq, handler, 0, f"dev{irq}", self) == 0
        return desc

    def softirq(self, number: int, action: Callable[[Cpu], Context]) -> None:
        open_softirq(self.cpu, number, action)

    # -- what it shows

    def log(self) -> list[str]:
        return [text for _, _, text in self.ram.log(self.cpu.number).lines()]

    def __getitem__(self, field: str) -> int:
        return self.page[field]


def handled(_irq: int, _dev: object) -> int:
    """The shortest interrupt handler."""
    return IRQ_HANDLED


class Ran(NamedTuple):
    """A program that ended."""

    code: int | None
    out: str
    err: str
    lines: list[str]


class Tap:
    """A capture that is going on: packets of one session, merged over the CPUs' rings."""

    def __init__(self, box: Box, session: int, job: Job) -> None:
        self._box = box
        self._session = session
        self._job = job
        self._since = [box.machine.ram.tap(n).count for n in range(box.cpus)]

    def packets(self) -> list[TapPacket]:
        found = []
        for number in range(self._box.cpus):
            packets, _, lost = self._box.machine.ram.tap(number).read(self._since[number])
            assert not lost
            found += [p for p in packets if p.sessions >> self._session & 1]
        return sorted(found, key=lambda p: p.time_ns)

    def kinds(self) -> Counter[str]:
        return Counter(kind(p.data) for p in self.packets())

    def stop(self) -> None:
        self._box.machine.signal(self._job, SIGINT)
        self._box.machine.wait(lambda: self._job.done, 1000)


def kind(frame: bytes) -> str:
    """request, reply, arp-request, arp-reply, or other."""
    if frame[12:14] == b"\x08\x06":
        return {1: "arp-request", 2: "arp-reply"}.get(frame[21], "other")
    if frame[12:14] == b"\x08\x00" and frame[23] == 1:
        return {8: "request", 0: "reply"}.get(frame[34], "other")
    return "other"


class Box:
    """A machine with bond0 over its NICs, booted."""

    def __init__(
        self,
        era: str = "6.1",
        *,
        cpus: int = 2,
        nics: int = 2,
        seed: int = 1,
        overrides: tuple[tuple[str, str], ...] = (),
        bonded: bool = True,
        boot: bool = True,
        gateway: GatewaySettings | None = None,
        pci_lines: int = 8,
        lan: LanSettings | None = None,
        hotplug: bool = False,
        fast_probe: bool = True,
        **bond: Any,
    ) -> None:
        names = tuple(f"eth{n}" for n in range(nics))
        self.cpus = cpus
        self.settings = MachineSettings(
            name="m1",
            era=era,
            cpus=cpus,
            nics=tuple(
                NicSettings(name, n, bytes((0, 0x1B, 0x21, 0, 0, n + 1)), hotplug)
                for n, name in enumerate(names)
            ),
            bond=BondSettings(slaves=names, **bond) if bonded else None,
            gateway=gateway or GatewaySettings(),
            overrides=overrides,
            completion_timeout_ms=50,
            pci_lines=pci_lines,
            lan=lan or LanSettings(),
            fast_probe=fast_probe,
        )
        self.machine = SimulatedMachine(self.settings, seed=seed)
        self.pages = {
            name: self.machine.ram.page(name, CPU_SCHEMA) for name in self.settings.cpu_names
        }
        if boot:
            self.boot()

    def boot(self) -> None:
        """Until bond0 has a carrier, programs may run, and the bond has announced itself."""
        ran = self.run("no-such-program")
        assert ran.code == 127
        self.live(150)

    # -- time

    @property
    def now_s(self) -> float:
        """Kernel time in seconds."""
        return (self.machine.now_ns() - START_NS) / 1e9

    def live(self, ms: float) -> None:
        self.machine.pump(self.machine.now_ns() + int(ms * MS))

    # -- programs

    def start(self, *argv: str, cpu: str = "cpu0") -> Job:
        return self.machine.spawn(cpu, argv)

    def end(self, job: Job, ms: float = 60_000) -> Ran:
        """Wait for a program."""
        assert self.machine.wait(lambda: job.done, int(ms)), f"{job.argv} does not end"
        pieces = job.take()
        out = "".join(text for stream, text in pieces if stream == 1)
        err = "".join(text for stream, text in pieces if stream == 2)
        return Ran(job.exit_code, out, err, out.splitlines())

    def run(self, *argv: str, cpu: str = "cpu0", ms: float = 60_000) -> Ran:
        return self.end(self.start(*argv, cpu=cpu), ms)

    def ping(self, *options: str, to: str = GATEWAY, cpu: str = "cpu0") -> Ran:
        return self.run("ping", *options, to, cpu=cpu)

    def interrupt(self, job: Job) -> Ran:
        self.machine.signal(job, SIGINT)
        return self.end(job)

    def capture(self, interface: str, *options: str) -> Tap:
        """tcpdump -i INTERFACE, from now on."""
        job = self.start("tcpdump", "-i", interface, *options)
        assert self.machine.wait(lambda: bool(job.output), 1000)
        session = int(job.take()[0][1].split('"session": ')[1].split(",")[0])
        return Tap(self, session, job)

    # -- hardware

    def cable(self, nic: str, *, inserted: bool) -> None:
        request = self.machine.cable(nic, inserted)
        assert self.machine.wait(lambda: request.done, 1000)
        assert request.ok

    # -- what it shows

    def ask(self, node: str, what: str) -> Any:
        request = self.machine.ask(node, what)
        assert self.machine.wait(lambda: request.done, 1000), f"{node} does not answer"
        assert request.ok, request.failed
        return request.value

    def kernel(self) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self.ask("cpu0", "kernel")
        return value

    def proc(self, path: str) -> str:
        boot = self.kernel()
        owner = procfs.also_asked(path, boot)
        more = {owner[0]: self.ask(*owner)} if owner is not None else {}
        return procfs.render(path, {**more, "cpu0": {**more.get("cpu0", {}), **boot}}, self.pages)

    def dmesg(self) -> list[tuple[float, str]]:
        """(seconds, text), merged over the CPUs."""
        lines = [
            (time_ns / 1e9, text)
            for number in range(self.cpus)
            for time_ns, _, text in self.machine.ram.log(number).lines()
        ]
        return sorted(lines, key=lambda line: line[0])

    def said(self, since_s: float = 0.0) -> list[str]:
        return [text for time_s, text in self.dmesg() if time_s >= since_s]

    def when(self, part: str, since_s: float = 0.0) -> float:
        """Time of the first log line that holds ``part``."""
        times = [t for t, text in self.dmesg() if part in text and t >= since_s]
        assert times, f"nobody said {part!r}: {self.said(since_s)}"
        return times[0]

    def total(self, field: str) -> int:
        """A counter summed over the CPUs."""
        return sum(page[field] for page in self.pages.values())

    def drops(self) -> dict[tuple[str, str], list[int]]:
        """Frames that ended in the kernel: (device, reason) -> [other, request, reply]."""
        names = ("-", *self.settings.nic_names)
        found: dict[tuple[str, str], list[int]] = {}
        for page in self.pages.values():
            words = page.run("drops")
            for device, name in enumerate(names):
                for number, reason in enumerate(DROP_REASONS):
                    at = (device * len(DROP_REASONS) + number) * 3
                    counts = words[at : at + 3]
                    if any(counts):
                        old = found.setdefault((name, reason), [0, 0, 0])
                        found[name, reason] = [a + b for a, b in zip(old, counts, strict=True)]
        return found

    def sent_times(self, cpu: str = "cpu0") -> dict[str, Any]:
        value: dict[str, Any] = self.ask(cpu, "ping:1")
        return value


def gaps_ms(value: Mapping[str, Any], at_least_ms: float) -> list[float]:
    """Silences between two replies of a ping, in ms, by its ``ping:1`` snapshot."""
    times = sorted(t for t in value["received"] if t)
    gaps = [(b - a) / MS for a, b in pairwise(times)]
    return [gap for gap in gaps if gap >= at_least_ms]


def posted(box: Box, node: str) -> list[MemWrite]:
    """Doorbells and register writes to ``node`` from now on (collected while the box lives)."""
    seen: list[MemWrite] = []

    def watch(_now: int, _sender: str, receiver: str, message: Any) -> None:
        if receiver == node and isinstance(message, MemWrite):
            seen.append(message)

    box.machine.simulation.watch = watch
    return seen
