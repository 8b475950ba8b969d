"""Two CPUs over one RAM, stepped one instruction boundary at a time, in any order."""

from __future__ import annotations

from bus.messages import IcrWrite, Interrupt
from tests.nodes.cpu.harness import MS, BareCpu

STARTUP = Interrupt(0x9A, 6, 0)
ON = (("preempt_count", "on"), ("prove_locking", "on"))


class Duo:
    """cpu0 and cpu1, both running; ``step`` passes a boundary on one of them."""

    def __init__(self, era: str = "6.1", overrides: tuple[tuple[str, str], ...] = ON) -> None:
        self.zero = BareCpu(era, cpus=2, boot=False, overrides=overrides)
        self.one = BareCpu(era, number=1, cpus=2, ram=self.zero.ram, overrides=overrides)
        self.both = (self.zero, self.one)
        self.one.turn(("apic", STARTUP))
        while not all(bench.cpu.programs.may_run for bench in self.both):
            self.live(MS)
        self.live(MS)

    def deliver(self) -> None:
        """IPIs, as the apic does it."""
        for bench in self.both:
            for message in bench.outbox.pop("apic", []):
                if isinstance(message, IcrWrite) and not message.icr >> 8 & 7:
                    target = self.both[message.icr >> 56]
                    target.turn(("apic", Interrupt(message.icr & 0xFF, 0, 0)), budget=0)

    def live(self, duration_ns: int) -> None:
        for bench in self.both:
            bench.run_for(duration_ns)
            self.deliver()

    def step(self, number: int) -> None:
        """One boundary of one CPU; time passes for both."""
        bench = self.both[number]
        wake = bench.turn(budget=1)
        now = max(b.ns for b in self.both)
        if wake is not None and wake > now:
            now = wake  # it pauses or idles until then
        for b in self.both:
            b.ns = now
        self.deliver()

    def idle(self) -> bool:
        return all(b.cpu.current is b.cpu.idle and not b.cpu.stack for b in self.both)

    def log(self) -> list[str]:
        return [line for bench in self.both for line in bench.log()]
