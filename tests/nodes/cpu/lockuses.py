"""For the tests of the lock validator: a lock taken in a context, and what the log says of it."""

from __future__ import annotations

from collections.abc import Callable

from nodes.cpu.kernel.locks.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_bh,
    spin_lock_irq,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_bh,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.softirq import NET_RX_SOFTIRQ, raise_softirq_irqoff
from tests.nodes.cpu.harness import MS, BareCpu, handled

VECTOR = 0x41
VARIANTS: dict[str, tuple[Callable[..., Context], Callable[..., Context]]] = {
    "none": (spin_lock, spin_unlock),
    "bh": (spin_lock_bh, spin_unlock_bh),
    "irq": (spin_lock_irq, spin_unlock_irq),
}


def use(cpu: Cpu, lock: Spinlock, variant: str = "none", inner: Context | None = None) -> Context:
    """Take the lock, do something, let go."""
    if variant == "irqsave":
        flags = yield from spin_lock_irqsave(cpu, lock)
    else:
        yield from VARIANTS[variant][0](cpu, lock)
    yield
    if inner is not None:
        yield from inner
    if variant == "irqsave":
        yield from spin_unlock_irqrestore(cpu, lock, flags)
    else:
        yield from VARIANTS[variant][1](cpu, lock)


def in_process(bench: BareCpu, gen: Context) -> int:
    """Run it in a task; returns its pid."""
    task = bench.task(gen)
    bench.run_for(5 * MS)
    return task.pid


def in_hardirq(bench: BareCpu, make: Callable[[], Context]) -> None:
    def handler(irq: int, dev: object) -> Context:
        yield from make()
        return handled(irq, dev)

    bench.cpu.irq.desc.pop(VECTOR, None)
    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)
    bench.run_for(5 * MS)


def in_softirq(bench: BareCpu, make: Callable[[], Context]) -> None:
    def handler(irq: int, dev: object) -> int:
        raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
        return handled(irq, dev)

    bench.softirq(NET_RX_SOFTIRQ, lambda _cpu: make())
    bench.cpu.irq.desc.pop(VECTOR, None)
    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)
    bench.run_for(5 * MS)


RUN = {"process": in_process, "softirq": in_softirq, "hardirq": in_hardirq}


def run_in(bench: BareCpu, context: str, make: Callable[[], Context]) -> None:
    if context == "process":
        in_process(bench, make())
    else:
        RUN[context](bench, make)  # type: ignore[arg-type]


def report(bench: BareCpu) -> list[str]:
    """The log from the frame of a report on."""
    log = bench.log()
    starts = [n for n, line in enumerate(log) if line and not line.strip("=")]
    assert len(starts) <= 1, log
    return log[starts[0] :] if starts else []


def titles(bench: BareCpu) -> list[str]:
    return report(bench)[1:2]


def ordered(cpu: Cpu, first: Spinlock, second: Spinlock) -> Context:
    yield from spin_lock(cpu, first)
    yield from spin_lock(cpu, second)
    yield from spin_unlock(cpu, second)
    yield from spin_unlock(cpu, first)
