"""Works for tests, known to every CPU of the bench by one number, that note when they ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nodes.cpu.kernel import words
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import INIT_DELAYED_WORK, INIT_WORK, Workqueue
from tests.nodes.cpu.harness import MS
from tests.nodes.cpu.several import Several


class Event(NamedTuple):
    """``what``: begins or ends; who ran it, where and when."""

    work: str
    what: str
    cpu: int
    comm: str
    ns: int


def computes(ms: float) -> Callable[[Cpu], Context]:
    """A body that keeps its CPU for so long."""

    def body(cpu: Cpu) -> Context:
        end = cpu.now() + int(ms * MS)
        while cpu.now() < end:
            yield

    return body


def sleeps(ms: int) -> Callable[[Cpu], Context]:
    def body(cpu: Cpu) -> Context:
        yield from msleep(cpu, ms)

    return body


class Gate:
    """A body that sleeps until ``opened``."""

    def __init__(self) -> None:
        self.opened = False

    def __call__(self, cpu: Cpu) -> Context:
        while not self.opened:
            yield from msleep(cpu, 1)


class Answer:
    """What a task that a test started has come to."""

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.ns = 0


def here(cpu: Cpu, wq: Workqueue) -> Workqueue:
    """The workqueue as this CPU has it."""
    return cpu.wq.workqueues[wq.id]


class Works:
    """The bench's CPUs, their works, and what these did, in the order in which it happened."""

    def __init__(self, era: str, cpus: int = 2, **more: Any) -> None:
        self.bench = Several(era, cpus, **more)
        self.cpus = [bench.cpu for bench in self.bench.all]
        self.events: list[Event] = []
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._numbers = iter(range(words.MODULE_WORK + 100, words.MODULE_WORK + 200))

    # -- works

    def work(self, name: str, body: Callable[[Cpu], Context] | None = None) -> list[Any]:
        """The work as each CPU has it: ``work[cpu.number]``."""
        number = next(self._numbers)
        return [INIT_WORK(cpu, number, name, self._function(name, body)) for cpu in self.cpus]

    def delayed_work(self, name: str, body: Callable[[Cpu], Context] | None = None) -> list[Any]:
        number = next(self._numbers)
        return [
            INIT_DELAYED_WORK(cpu, number, name, self._function(name, body)) for cpu in self.cpus
        ]

    def _function(
        self, name: str, body: Callable[[Cpu], Context] | None
    ) -> Callable[[Cpu], Context]:
        def function(cpu: Cpu) -> Context:
            self.running[name] = self.running.get(name, 0) + 1
            self.most[name] = max(self.most.get(name, 0), self.running[name])
            self._note(cpu, name, "begins")
            if body is not None:
                yield from body(cpu)
            yield
            self._note(cpu, name, "ends")
            self.running[name] -= 1

        return function

    def _note(self, cpu: Cpu, name: str, what: str) -> None:
        self.events.append(Event(name, what, cpu.number, cpu.current.comm, cpu.now()))

    # -- what they did

    def order(self, what: str = "begins") -> list[str]:
        return [event.work for event in self.events if event.what == what]

    def at(self, name: str, what: str, which: int = 0) -> Event:
        return [e for e in self.events if (e.work, e.what) == (name, what)][which]

    # -- tasks

    def start(self, number: int, gen: Context) -> Answer:
        """A task on that CPU that makes a call; look at ``done`` and ``value``."""
        answer, cpu = Answer(), self.cpus[number]

        def task() -> Context:
            answer.value = yield from gen
            answer.done, answer.ns = True, cpu.now()

        self.bench.task(number, task())
        return answer

    def do(self, number: int, gen: Context, limit_ms: int = 20_000) -> Any:
        """Make the call and wait for it."""
        answer = self.start(number, gen)
        self.bench.until(lambda: answer.done, limit_ms * MS)
        return answer.value

    def live(self, ms: float) -> None:
        self.bench.live(int(ms * MS))
