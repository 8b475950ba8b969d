"""Works that note what they do, on one CPU or on several."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.words import OTHER_WORK
from nodes.cpu.kernel.workqueue import INIT_DELAYED_WORK, DelayedWork
from tests.nodes.cpu.harness import MS, BareCpu

CMWQ = ("3.10", "6.1")
FIRST_WORK = OTHER_WORK + 100

Body = Callable[[Cpu], Context]


def now(context: Context) -> bool:
    """The answer of what does not have to wait for another CPU."""
    with pytest.raises(StopIteration) as ended:
        next(context)
    return bool(ended.value.value)


class Log:
    """Works that note when they begin and end, and in which task."""

    def __init__(self, *benches: BareCpu) -> None:
        self.benches = benches
        self.order: list[str] = []
        self.workers: list[str] = []
        self.running = 0
        self.most = 0

    def work(self, name: str, body: Body | None = None) -> DelayedWork:
        """Known to all of the CPUs; the first one's view."""

        def function(cpu: Cpu) -> Context:
            self.order.append(f"{name} begins")
            self.workers.append(cpu.current.comm)
            self.running += 1
            self.most = max(self.most, self.running)
            if body is not None:
                yield from body(cpu)
            yield
            self.running -= 1
            self.order.append(f"{name} ends")

        number = FIRST_WORK + ord(name)
        views = [INIT_DELAYED_WORK(b.cpu, number, name, function) for b in self.benches]
        return views[0]

    def view(self, cpu: Cpu, name: str) -> DelayedWork:
        """What CPU has under that name."""
        return cpu.wq.delayed_works[FIRST_WORK + ord(name)]


def compute(cpu: Cpu) -> Context:
    """Work that keeps the CPU for 3 ms."""
    end = cpu.now() + 3 * MS
    while cpu.now() < end:
        yield


def sleep(cpu: Cpu) -> Context:
    yield from msleep(cpu, 20)
