"""The tracepoints of include/trace/events/workqueue.h: what each record holds is in
``nodes.cpu.trace``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.workqueue.work import Work
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: A work's number; -1 (a work of one CPU alone, a barrier) has 32 bits there too.
_NUMBER_MASK = 0xFFFF_FFFF

_QUEUE = TRACEPOINTS["workqueue_queue_work"].number
_ACTIVATE = TRACEPOINTS["workqueue_activate_work"].number
_START = TRACEPOINTS["workqueue_execute_start"].number
_END = TRACEPOINTS["workqueue_execute_end"].number


def trace_workqueue_queue_work(
    cpu: Cpu, work: Work, workqueue: str, req_cpu: int | None, pool_cpu: int
) -> None:
    """``req_cpu`` None is WORK_CPU_UNBOUND, ``pool_cpu`` -1 an unbound pool."""
    if cpu.trace_mask >> _QUEUE & 1:
        asked = 0 if req_cpu is None else req_cpu + 1
        who = work.number & _NUMBER_MASK | asked << 32 | pool_cpu + 1 << 48
        cpu.trace(_QUEUE, who, cpu.symbol(work.name) | cpu.symbol(workqueue) << 32)


def trace_workqueue_activate_work(cpu: Cpu, work: Work) -> None:
    if cpu.trace_mask >> _ACTIVATE & 1:
        cpu.trace(_ACTIVATE, work.number & _NUMBER_MASK, cpu.symbol(work.name))


def trace_workqueue_execute_start(cpu: Cpu, work: Work) -> None:
    if cpu.trace_mask >> _START & 1:
        cpu.trace(_START, work.number & _NUMBER_MASK, cpu.symbol(work.name))


def trace_workqueue_execute_end(cpu: Cpu, work: Work) -> None:
    if cpu.trace_mask >> _END & 1:
        cpu.trace(_END, work.number & _NUMBER_MASK, cpu.symbol(work.name))
