"""Completions that another CPU may complete, and operations that it performs for a task.

In Linux whoever flushes or cancels takes pool->lock and looks. Here a pool's state is its CPU's
alone, so the question travels: a record with an operation, its arguments and the *key* of the
asker's completion. The owner performs it with interrupts off, which is to hold pool->lock, and
answers at once, or later (a flush: when the barrier has run), and may pass the question on. A
completion is Linux's: a task that sleeps until somebody, here or on another CPU, completes it with
a value. (``remote`` has questions that a softirq may ask, which spins and is answered at once.)

Records of one CPU are taken in order: its question never overtakes a work that it queued before.
For works that others queued there is ``fence``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import TASK_RUNNING, TASK_UNINTERRUPTIBLE, Task, wake_up_process
from nodes.cpu.kernel.smp import call_function_single, remote_function

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Records: perform an operation; complete.
WQ_CALL, WQ_COMPLETE = 123, 124

#: The operation that does nothing.
FENCE = 0

_CPU_SHIFT = 32
_WORD = (1 << 64) - 1

#: Returns the answer, or None: it comes later, by ``complete`` with the key. It may be a context.
Operation = Callable[["Cpu", int, int, int, int], Context | int | None]
OPERATIONS: dict[int, Operation] = {}


def operation(number: int) -> Callable[[Operation], Operation]:
    """Register what WQ_CALL does: ``f(cpu, key, a, b, c)``, interrupts off."""

    def register(function: Operation) -> Operation:
        assert number not in OPERATIONS
        OPERATIONS[number] = function
        return function

    return register


class Completion:
    """struct completion with the value it was completed with."""

    def __init__(self, key: int, task: Task) -> None:
        self.key = key
        self.task = task
        self.done = False
        self.value = 0


class Completions:
    """Completions of this CPU's tasks that are not done yet, by key."""

    def __init__(self) -> None:
        self.used = 0
        self.waiting: dict[int, Completion] = {}


def init_completion(cpu: Cpu) -> Completion:
    """One for the current task."""
    completions = cpu.wq.completions
    completions.used += 1
    completion = Completion(cpu.number << _CPU_SHIFT | completions.used, cpu.current)
    completions.waiting[completion.key] = completion
    return completion


def wait_for_completion(cpu: Cpu, completion: Completion) -> Context:
    """Sleep until it is complete; returns its value."""
    while not completion.done:
        completion.task.state = TASK_UNINTERRUPTIBLE
        yield SCHEDULE
    completion.task.state = TASK_RUNNING
    return completion.value


def complete(cpu: Cpu, key: int, value: int = 0) -> Context:
    """Complete ``key``, whose task may sleep on another CPU."""
    owner = key >> _CPU_SHIFT
    if owner == cpu.number:
        _complete(cpu, key, value)
    else:
        yield from call_function_single(cpu, owner, [WQ_COMPLETE, key, value & _WORD])


def _complete(cpu: Cpu, key: int, value: int) -> None:
    completion = cpu.wq.completions.waiting.pop(key, None)
    if completion is not None:
        completion.done, completion.value = True, value
        wake_up_process(cpu, completion.task)


def ask(cpu: Cpu, owner: int, number: int, a: int = 0, b: int = 0, c: int = 0) -> Context:
    """Have CPU ``owner`` perform an operation, and sleep until the answer is there."""
    completion = init_completion(cpu)
    yield from send(cpu, owner, number, completion.key, a, b, c)
    answer: int = yield from wait_for_completion(cpu, completion)
    return answer


def ask_each(cpu: Cpu, number: int, a: int = 0, b: int = 0, c: int = 0) -> Context:
    """The same of every online CPU, all at once; returns their answers."""
    asked = []
    for owner in list(cpu.online_cpus):
        completion = init_completion(cpu)
        asked.append(completion)
        yield from send(cpu, owner, number, completion.key, a, b, c)
    answers = []
    for completion in asked:
        answers.append((yield from wait_for_completion(cpu, completion)))
    return answers


def fence(cpu: Cpu) -> Context:
    """Until all works that were sent before have arrived: two hops at the most, by way of the pool
    where the work ran last. Clocks of two CPUs may differ by what one does in a turn; a record that
    was sent later may be taken first, out of one batch, but not out of the next."""
    if len(cpu.online_cpus) > 1:
        yield from ask_each(cpu, FENCE)
        yield from ask_each(cpu, FENCE)


def send(
    cpu: Cpu, owner: int, number: int, key: int, a: int = 0, b: int = 0, c: int = 0
) -> Context:
    """Ask, or pass somebody else's question on; the answer goes to the key."""
    if owner == cpu.number:
        flags = local_irq_save(cpu)
        yield from _perform(cpu, number, key, a, b, c)
        local_irq_restore(cpu, flags)
    else:
        record = [WQ_CALL, number, key, a & _WORD, b & _WORD, c & _WORD]
        yield from call_function_single(cpu, owner, record)


def _perform(cpu: Cpu, number: int, key: int, a: int, b: int, c: int) -> Context:
    answer = OPERATIONS[number](cpu, key, a, b, c)
    if isinstance(answer, Generator):
        answer = yield from answer
    if answer is not None:
        yield from complete(cpu, key, answer)


def signed(word: int) -> int:
    """What a negative argument or answer was before it travelled."""
    return word - (1 << 64) if word >> 63 else word


@operation(FENCE)
def _fence(_cpu: Cpu, _key: int, _a: int, _b: int, _c: int) -> int | None:
    return 0


@remote_function(WQ_CALL)
def wq_call(cpu: Cpu, _source: int, record: list[int]) -> Context:
    """The other CPU's question."""
    yield from _perform(cpu, *record[1:6])


@remote_function(WQ_COMPLETE)
def wq_complete(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    """The other CPU's answer."""
    _complete(cpu, record[1], signed(record[2]))
    return None
