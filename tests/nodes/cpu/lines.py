"""A bare CPU whose IPIs to itself come back, and software lines on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bus.messages import IcrWrite, Interrupt, LocalApicId
from bus.node import NOW
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IRQF_SHARED, IrqChip, IrqDesc
from nodes.cpu.kernel.irq.manage import request_irq, request_threaded_irq
from nodes.cpu.kernel.irq.sim import SimLine, irq_sim_create, irq_sim_line
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.page import CPU_SCHEMA
from tests.nodes.cpu.harness import ERAS, BareCpu

IRQ = 5  # the line of most tests
eras = pytest.mark.parametrize("era", ERAS)

_IRQS = CPU_SCHEMA.index("irqs")
ICR_VECTOR = 0xFF


class LineBench(BareCpu):
    """A CPU and an interrupt controller that only knows the way back."""

    def __init__(self, era: str = "6.1", **options: Any) -> None:
        self._coming: list[tuple[str, Any]] = []
        self.ipis: list[int] = []  # vectors that came back
        super().__init__(era, overrides=tuple(options.pop("overrides", {}).items()), **options)

    def turn(self, *inbox: tuple[str, Any], budget: int = 64) -> int | None:
        coming, self._coming = self._coming, []
        wake = super().turn(*coming, *inbox, budget=budget)
        for message in self.outbox.pop("apic", []):
            if isinstance(message, LocalApicId):
                continue
            assert isinstance(message, IcrWrite)
            vector = message.icr & ICR_VECTOR
            self.ipis.append(vector)
            self._coming.append(("apic", Interrupt(vector, 0, 0)))
        if self._coming:
            self.wake = wake = NOW
        return wake

    def line(self, irq: int, flow: str = "edge", **options: Any) -> IrqDesc:
        return irq_sim_create(self.cpu, irq, flow, **options)

    def wire(self, irq: int) -> SimLine:
        return irq_sim_line(self.cpu, irq)

    def request(
        self,
        irq: int,
        handler: Callable[..., Any] | None,
        flags: int = 0,
        name: str = "dev",
        dev_id: Any = "dev",
        thread_fn: Callable[..., Any] | None = None,
    ) -> int:
        if thread_fn is None:
            return request_irq(self.cpu, irq, handler, flags, name, dev_id)
        return request_threaded_irq(self.cpu, irq, handler, thread_fn, flags, name, dev_id)

    def counted(self, irq: int) -> int:
        value: int = self.page.words[_IRQS + irq]
        return value

    def run(self, context: Context) -> Any:
        """A context as a task, to its end; what it returned."""
        result: list[Any] = []

        def task() -> Context:
            result.append((yield from context))

        self.task(task())
        self.run_until(lambda: bool(result))
        return result[0]


class Recorder:
    """A handler that writes down when it ran and for whom; ``length`` boundaries long."""

    def __init__(self, bench: LineBench, length: int = 0, result: int = IRQ_HANDLED) -> None:
        self.bench = bench
        self.length = length
        self.result = result
        self.began: list[int] = []
        self.ended: list[int] = []
        self.__name__ = "recorder"

    def __call__(self, _irq: int, _dev: object) -> Context:
        self.began.append(self.bench.ns)
        for _ in range(self.length):
            yield
        self.ended.append(self.bench.ns)
        return self.result

    @property
    def runs(self) -> int:
        return len(self.began)


SHARED = IRQF_SHARED


class CountingChip:
    """A chip that writes its calls down and does what ``chip`` does."""

    def __init__(self, chip: IrqChip, *names: str, flags: int = 0) -> None:
        self.calls: list[str] = []
        operations: dict[str, Any] = {}
        for name in names:
            operations[f"irq_{name}"] = self._wrap(name, getattr(chip, f"irq_{name}"))
        self.chip = IrqChip("counting", flags=flags, **operations)

    def _wrap(self, name: str, operation: Any) -> Any:
        def call(cpu: Cpu, desc: IrqDesc) -> Any:
            self.calls.append(name)
            return operation(cpu, desc) if operation is not None else None

        return call
