"""What the two kinds of machine that this process runs itself share: questions, jobs, former lives.

A kind adds how a message reaches a node (``_deliver``) and how its nodes live and die.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bus.messages import CPU_MASK_ALL, Signal
from bus.ram import COMMON_SCHEMA, Page
from bus.simulation import Place
from nodes.machine import MachineSettings
from orchestrator.machines import hosts
from orchestrator.machines.desk import Desk
from orchestrator.machines.machine import Job, Machine, Request
from orchestrator.pages import schema_of

_Out = TypeVar("_Out", Request, Job)


class LocalMachine(Machine):
    """A machine whose nodes this process talks to; toys (``places`` of a test) have plain pages."""

    def __init__(self, settings: MachineSettings, places: Mapping[str, Place] | None) -> None:
        self.settings = settings
        self._toys = places is not None
        self._desk = Desk()
        self._archive: dict[tuple[str, int], bytes] = {}
        self.others: Callable[[], Mapping[str, str]] = dict  # addresses of machines, by name
        self._pulled: list[str] = []  # NICs whose card was pulled and not put in again

    @abstractmethod
    def _deliver(self, node: str, message: Any) -> str:
        """Give a message to a node; why it was not taken, or nothing."""

    def ask(self, node: str, what: str) -> Request:
        request, message = self._desk.ask(node, what)
        return self._hand_over(node, message, request)

    def cable(self, nic: str, inserted: bool) -> Request:
        request, message = self._desk.cable(nic, inserted)
        return self._hand_over(request.node, message, request)

    def fault(
        self, node: str, kind: str, value: int, for_ns: int, on: bool, port: str = ""
    ) -> Request:
        request, message = self._desk.fault(node, kind, value, for_ns, on, port)
        return self._hand_over(node, message, request)

    def spawn(self, cpu: str, argv: tuple[str, ...], cpus_allowed: int = CPU_MASK_ALL) -> Job:
        lines = hosts.lines(self.settings, argv, self.others)
        job, message = self._desk.spawn(cpu, argv, cpus_allowed, lines)
        return self._hand_over(cpu, message, job)

    def signal(self, job: Job, signo: int) -> None:
        if not job.done:
            self._deliver(job.cpu, self._desk.signal(job, signo))

    def pull(self, nic: str) -> None:
        """See ``Machine.pull``."""
        if not self.state(nic).alive:
            raise ProcessLookupError(f"{nic} is dead")
        self._pulled.append(nic)
        self.kill(nic)

    def _file(self, sender: str, message: Any) -> None:
        """Take what a node said; a signal that missed a task on the move goes after it."""
        if type(message) is Signal:
            cpu = self._desk.moved_from(sender, message)
            if cpu:
                self._deliver(cpu, message)
        else:
            self._desk.file(sender, message)

    def _hand_over(self, node: str, message: Any, out: _Out) -> _Out:
        why = self._deliver(node, message)
        if why:
            self._desk.fail(out, why)
        return out

    def _keep_page(self, node: str) -> None:
        """Its life ended and another begins: keep what it left."""
        if node in self._pulled:
            self._pulled.remove(node)
        self._archive[node, self.ram.incarnation(node)] = bytes(self.ram.page(node).words)

    def archived_page(self, node: str, incarnation: int) -> dict[str, int | list[int]] | None:
        words = self._archive.get((node, incarnation))
        if words is None:
            return None
        schema = COMMON_SCHEMA if self._toys else schema_of(self.settings, node)
        return Page(memoryview(words).cast("Q"), schema).as_dict()
