"""Busy waiting, as udelay and mdelay do it: the CPU is held, interrupts may come through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context, Pause

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def udelay(cpu: Cpu, us: int) -> Context:
    """Spin for ``us`` microseconds."""
    end = cpu.now() + us * 1_000
    while cpu.now() < end:
        yield Pause(end)


def mdelay(cpu: Cpu, ms: int) -> Context:
    """Spin for ``ms`` milliseconds."""
    yield from udelay(cpu, ms * 1_000)
