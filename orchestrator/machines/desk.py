"""Questions and jobs that are out at the nodes: what both kinds of machine keep book of."""

from __future__ import annotations

from typing import Any

import msgpack

from bus.messages import (
    Cable,
    Fault,
    Reply,
    Signal,
    Snapshot,
    Spawn,
    TaskExit,
    TaskMoved,
    TaskOutput,
)
from nodes.machine import LAN
from orchestrator.machines.machine import Job, Request

#: Words of a job's next CPU that wait for the last one of its old CPU.
EARLY_MAX = 4096


class Desk:
    """Numbers requests and jobs, and files the answers."""

    def __init__(self) -> None:
        self._number = 0
        self._requests: dict[int, Request] = {}
        self._jobs: dict[int, Job] = {}

    def _next(self) -> int:
        self._number += 1
        return self._number

    def ask(self, node: str, what: str) -> tuple[Request, Snapshot]:
        """A question for a snapshot and the message that carries it."""
        request = Request(node, self._next())
        self._requests[request.number] = request
        return request, Snapshot(request.number, what)

    def cable(self, port: str, inserted: bool) -> tuple[Request, Cable]:
        """A hand at the switch; the LAN answers."""
        request = Request(LAN, self._next())
        self._requests[request.number] = request
        return request, Cable(request.number, port, int(inserted))

    def fault(
        self, node: str, kind: str, value: int, for_ns: int, on: bool, port: str = ""
    ) -> tuple[Request, Fault]:
        """A part of a device breaks, or is mended."""
        request = Request(node, self._next())
        self._requests[request.number] = request
        return request, Fault(request.number, kind, value, for_ns, int(on), port)

    def spawn(
        self, cpu: str, argv: tuple[str, ...], cpus_allowed: int, hosts: tuple[str, ...]
    ) -> tuple[Job, Spawn]:
        """A program for ``cpu``; its arguments are those of ``Spawn``."""
        job = Job(cpu, self._next(), argv)
        self._jobs[job.number] = job
        return job, Spawn(job.number, argv, cpus_allowed, hosts)

    def signal(self, job: Job, signo: int) -> Signal:
        """A signal for a job."""
        return Signal(job.number, signo)

    def file(self, sender: str, message: Any) -> None:
        """Take what a node said; answers to nothing that is out are ignored."""
        if type(message) is Reply:
            request = self._requests.get(message.request)
            if request is not None and request.node == sender:
                del self._requests[message.request]
                self._answer(request, message)
        elif type(message) in (TaskOutput, TaskExit, TaskMoved):
            job = self._jobs.get(message.request)
            if job is not None and job.cpu == sender:
                self._of_task(job, message)
            elif job is not None and len(job.early) < EARLY_MAX:
                job.early.append((sender, message))

    def _of_task(self, job: Job, message: Any) -> None:
        """What the CPU of a job says about it."""
        if type(message) is TaskOutput:
            job.output.append((message.stream, message.text))
        elif type(message) is TaskExit:
            del self._jobs[job.number]
            job.exit_code = message.code
        else:
            self._go_on(job, message.cpu)

    def _go_on(self, job: Job, cpu: str) -> None:
        """From now on ``cpu`` speaks for the job; it may have begun before the old one ended."""
        job.cpu = cpu
        early, job.early = job.early, []
        for sender, message in early:
            self.file(sender, message)

    def moved_from(self, sender: str, signal: Signal) -> str:
        """A CPU sent a signal back: the CPU that the job has moved to, or nothing (it is over)."""
        job = self._jobs.get(signal.request)
        return job.cpu if job is not None and job.cpu != sender else ""

    @staticmethod
    def _answer(request: Request, reply: Reply) -> None:
        try:
            value = msgpack.unpackb(reply.value, strict_map_key=False)
        except Exception as error:  # whatever msgpack raises, the node's bytes are at fault
            request.failed = f"{request.node} answered nonsense ({type(error).__name__})"
        else:
            request.ok = bool(reply.ok)
            request.value = value
            if not request.ok:
                request.failed = str(value)
        request.done = True

    def fail(self, out: Request | Job, why: str) -> None:
        """It could not even be sent, or its node died."""
        if isinstance(out, Request):
            self._requests.pop(out.number, None)
            out.done = True
        else:
            self._jobs.pop(out.number, None)
        out.failed = why

    def node_died(self, node: str, why: str) -> None:
        """Everything that is out at ``node`` fails."""
        for request in [r for r in self._requests.values() if r.node == node]:
            self.fail(request, why)
        for job in [j for j in self._jobs.values() if j.cpu == node]:
            if job.early:  # it had gone on elsewhere, only the word of it died
                self._go_on(job, job.early[0][0])
            else:
                self.fail(job, why)
