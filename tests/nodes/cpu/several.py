"""Several bare CPUs over one RAM, and an interrupt controller that only routes IPIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bus.messages import IcrWrite, Interrupt, LocalApicId
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sched import Task
from nodes.cpu.page import ARCH_IRQS
from tests.nodes.cpu.harness import MS, BareCpu

#: What a CPU is given in one round of ``live``.
SLICE_NS = 20_000


class Several:
    """cpu0, cpu1, ... ; what they write to the ICR is handed over by ``deliver``.

    A number in ``dead`` gets no time, and no vector either."""

    def __init__(
        self,
        era: str = "6.1",
        cpus: int = 2,
        *,
        started: bool = True,
        overrides: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.zero = BareCpu(era, cpus=cpus, boot=False, overrides=overrides)
        self.all = [self.zero] + [
            BareCpu(era, number=n, cpus=cpus, ram=self.zero.ram, overrides=overrides)
            for n in range(1, cpus)
        ]
        self.one = self.all[1]
        self.dead: list[int] = []
        self.icr: list[tuple[int, int]] = []  # (sender, value)
        if started:
            self.until(lambda: all(len(b.cpu.online_cpus) == cpus for b in self.all))
            self.live(5 * MS)
            self.icr.clear()

    # -- time

    def deliver(self) -> None:
        """As the apic does it, without its queues."""
        for sender, bench in enumerate(self.all):
            for message in bench.outbox.pop("apic", []):
                if isinstance(message, LocalApicId):
                    continue  # here everybody knows where a CPU is
                assert isinstance(message, IcrWrite)
                self.icr.append((sender, message.icr))
                for target in self._targets(sender, message.icr):
                    if target not in self.dead:
                        self._hand_over(self.all[target], message.icr)

    def _targets(self, sender: int, icr: int) -> list[int]:
        if icr >> 15 & 1 and not icr >> 14 & 1:
            return []  # INIT deassert
        if icr >> 18 & 3 == 3:
            return [n for n in range(len(self.all)) if n != sender]
        if icr >> 11 & 1:
            return [n for n in range(len(self.all)) if icr >> 56 >> n & 1]
        return [icr >> 56]

    def _hand_over(self, bench: BareCpu, icr: int) -> None:
        bench.wake = bench.node.turn(
            [("apic", Interrupt(icr & 0xFF, icr >> 8 & 7, icr >> 15 & 1))], 0
        )

    def live(self, duration_ns: int) -> None:
        """Let all of them run side by side."""
        end = self.zero.ns + duration_ns
        while self.zero.ns < end:
            self._slice(min(SLICE_NS, end - self.zero.ns))
            self._skip(end)

    def _slice(self, duration_ns: int) -> None:
        end = self.zero.ns + duration_ns
        for number, bench in enumerate(self.all):
            if number in self.dead:
                bench.ns = end
            elif bench.ns < end:
                bench.run_for(end - bench.ns)
        self.deliver()

    def _skip(self, end: int) -> None:
        """Leave out the slices in which no CPU has anything to do, or all until ``end``."""
        now = self.zero.ns
        wakes = [b.wake for n, b in enumerate(self.all) if n not in self.dead]
        first = min((wake for wake in wakes if wake is not None), default=end)
        idle_ns = (min(first, end) - now) // SLICE_NS * SLICE_NS
        if idle_ns > 0:
            for bench in self.all:
                bench.ns = max(bench.ns, now + idle_ns)

    def until(self, done: Callable[[], bool], limit_ns: int = 60_000 * MS) -> None:
        end = self.zero.ns + limit_ns
        looked = False
        while not done():
            if looked:
                self._skip(end)
            looked = True
            assert self.zero.ns < end, "it did not happen"
            self._slice(SLICE_NS)

    # -- what a test does and sees

    def task(self, number: int, gen: Context) -> Task:
        bench = self.all[number]
        task = bench.task(gen)
        bench.wake = 0
        return task

    def res(self, number: int) -> int:
        return self.arch(number, "RES")

    def cal(self, number: int) -> int:
        return self.arch(number, "CAL")

    def arch(self, number: int, row: str) -> int:
        return self.all[number].page.run("arch_irqs")[ARCH_IRQS.index(row)]

    def said(self, part: str = "") -> list[str]:
        """Log lines of all CPUs by time."""
        lines: list[tuple[int, str]] = []
        for number in range(len(self.all)):
            lines += [(at, text) for at, _, text in self.zero.ram.log(number).lines()]
        return [text for _, text in sorted(lines, key=lambda line: line[0]) if part in text]

    def vectors(self) -> list[Any]:
        """(sender, ICR without level bits) of fixed IPIs since the last look."""
        seen, self.icr = self.icr, []
        return [(sender, icr & ~(1 << 14)) for sender, icr in seen]
