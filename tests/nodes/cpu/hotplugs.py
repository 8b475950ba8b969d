"""CPUs that go offline and come back, for the tests of that."""

from __future__ import annotations

from nodes.cpu.kernel.cpuhotplug import cpu_down, cpu_up
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.page import CONTEXTS
from nodes.cpu.programs.run import PROGRAMS, Process, program
from tests.nodes.cpu.harness import MS, SECOND, Box
from tests.nodes.cpu.several import Several

OFFLINE = CONTEXTS.index("offline")


class Cpus(Several):
    """Bare CPUs that are taken off and on by a task of CPU ``by``."""

    def change(self, number: int, *, up: bool, by: int = 0) -> list[int]:
        """Ask; the list gets the answer."""
        answer: list[int] = []

        def ask(cpu: Cpu) -> Context:
            answer.append((yield from (cpu_up if up else cpu_down)(cpu, number)))

        self.task(by, ask(self.all[by].cpu))
        return answer

    def down(self, number: int = 1, by: int = 0) -> int:
        answer = self.change(number, up=False, by=by)
        self.until(lambda: bool(answer))
        self.live(MS)
        return answer[0]

    def up(self, number: int = 1, by: int = 0) -> int:
        answer = self.change(number, up=True, by=by)
        self.until(lambda: bool(answer))
        self.live(MS)
        return answer[0]

    def run(self, number: int, gen: Context, limit_ns: int = 10 * SECOND) -> None:
        """A task of CPU ``number``, to its end."""
        task = self.task(number, gen)
        self.until(lambda: task.gen is None, limit_ns)

    def halted(self, number: int = 1) -> bool:
        return self.all[number]["context"] == OFFLINE and self.all[number].wake is None


def change(box: Box, number: int, *, up: bool, on: str = "cpu0") -> int:
    """cpu_up or cpu_down asked by a program of CPU ``on``; what it returns."""

    @program("hotplug")
    def hotplug(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
        error = yield from (cpu_up if up else cpu_down)(cpu, number)
        return -error

    try:
        code = box.run("hotplug", cpu=on, ms=300_000).code
        assert code is not None
        return -code
    finally:
        del PROGRAMS["hotplug"]
