"""Property: who keeps the rules of which variant to take is alone inside and never hangs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from nodes.cpu.kernel.locks.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_bh,
    spin_lock_irq,
    spin_lock_irqsave,
    spin_trylock,
    spin_unlock,
    spin_unlock_bh,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.softirq import NET_RX_SOFTIRQ, NET_TX_SOFTIRQ, raise_softirq_irqoff
from tests.nodes.cpu.duo import Duo
from tests.nodes.cpu.harness import ERAS, BareCpu, handled
from tests.nodes.cpu.test_spinlock import VECTOR

# ---------------------------------------------------------------- property: the rules of 7.2


class Workers:
    """Random users of three locks that keep the rules: ``p`` is for processes only, ``s`` is shared
    with softirqs, ``h`` with hard interrupts too. Taken inside one another in this order only."""

    def __init__(self, duo: Duo, rng: random.Random) -> None:
        self.duo = duo
        self.rng = rng
        self.p = Spinlock(40, "p")
        self.s = Spinlock(41, "s")
        self.h = Spinlock(42, "h")
        self.inside: dict[str, list[str]] = {"p": [], "s": [], "h": []}
        self.entered = dict.fromkeys(
            ("process p", "process s", "process h", "softirq s", "softirq h", "hardirq h"), 0
        )
        for bench in duo.both:
            for number in (NET_TX_SOFTIRQ, NET_RX_SOFTIRQ):
                bench.softirq(number, self.softirq)
            bench.irq(VECTOR, self.hardirq(bench), 0x41)
            bench.irq(VECTOR + 0x10, self.hardirq(bench), 0x51)

    def critical(self, cpu: Cpu, which: Spinlock, who: str, then: Context | None = None) -> Context:
        inside = self.inside[which.name]
        assert not inside, f"{who} on {cpu.name} beside {inside} in {which.name}"
        inside.append(f"{who} on {cpu.name}")
        self.entered[f"{who} {which.name}"] += 1
        for _ in range(self.rng.randrange(4)):
            yield
        if then is not None:
            yield from then
        inside.clear()

    def take(self, cpu: Cpu, which: Spinlock, variant: str, who: str, then: Any = None) -> Context:
        body = self.critical(cpu, which, who, then)
        before = (cpu.preempt_count, cpu.irqs_on)
        if variant == "plain":
            yield from spin_lock(cpu, which)
            yield from body
            yield from spin_unlock(cpu, which)
        elif variant == "bh":
            yield from spin_lock_bh(cpu, which)
            yield from body
            yield from spin_unlock_bh(cpu, which)
        elif variant == "irq":
            yield from spin_lock_irq(cpu, which)
            yield from body
            yield from spin_unlock_irq(cpu, which)
        elif variant == "try":
            if (yield from spin_trylock(cpu, which)):
                yield from body
                yield from spin_unlock(cpu, which)
            else:
                body.close()
        else:
            flags = yield from spin_lock_irqsave(cpu, which)
            yield from body
            yield from spin_unlock_irqrestore(cpu, which, flags)
        assert (cpu.preempt_count, cpu.irqs_on) == before

    def process(self, cpu: Cpu) -> Context:
        rng = self.rng
        for _ in range(6):
            which = rng.choice("psh")
            if which == "h":
                yield from self.take(cpu, self.h, rng.choice(("irq", "irqsave")), "process")
            elif which == "s":
                inner = None
                if rng.random() < 0.3:
                    inner = self.take(cpu, self.h, "irqsave", "process")
                variant = rng.choice(("bh", "bh", "irq", "irqsave"))
                yield from self.take(cpu, self.s, variant, "process", inner)
            else:
                inner = None
                if rng.random() < 0.5:
                    inner = self.take(cpu, self.s, "bh", "process")
                yield from self.take(cpu, self.p, rng.choice(("plain", "try")), "process", inner)
                if inner is not None:
                    inner.close()
            yield

    def softirq(self, cpu: Cpu) -> Context:
        if self.rng.random() < 0.5:
            yield from self.take(cpu, self.s, "plain", "softirq")
        else:
            variant = self.rng.choice(("irq", "irqsave"))
            yield from self.take(cpu, self.h, variant, "softirq")

    def hardirq(self, bench: BareCpu) -> Callable[[int, object], Context]:
        def handler(irq: int, dev: object) -> Context:
            cpu = bench.cpu
            yield from self.take(cpu, self.h, self.rng.choice(("plain", "irqsave")), "hardirq")
            raise_softirq_irqoff(cpu, self.rng.choice((NET_TX_SOFTIRQ, NET_RX_SOFTIRQ)))
            return handled(irq, dev)

        return handler


@pytest.mark.parametrize("era", ERAS)
def test_who_keeps_the_rules_is_alone_inside_and_never_hangs(era: str) -> None:
    duo = Duo(era)
    entered: dict[str, int] = {}
    for seed in range(120):
        rng = random.Random(seed)
        workers = Workers(duo, rng)
        for bench in duo.both:
            bench.cpu.irq.desc.clear()
        workers = Workers(duo, rng)
        for bench in duo.both:
            for _ in range(rng.randrange(1, 3)):
                bench.task(workers.process(bench.cpu))
        for _ in range(400):
            number = rng.randrange(2)
            if rng.random() < 0.05:
                duo.both[number].vector(rng.choice((VECTOR, VECTOR + 0x10)))
            duo.step(number)
        for _ in range(4000):
            if duo.idle():
                break
            duo.step(0)
            duo.step(1)
        assert duo.idle(), f"seed {seed}: somebody hangs"
        for bench in duo.both:
            assert bench.cpu.preempt_count == 0
            assert bench.cpu.irqs_on
        for who, count in workers.entered.items():
            entered[who] = entered.get(who, 0) + count
    assert all(count > 100 for count in entered.values()), entered
    assert not [line for line in duo.log() if "WARNING" in line or "INFO" in line or "BUG" in line]
