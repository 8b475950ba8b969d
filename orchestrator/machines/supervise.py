"""Who lives: the processes of one machine, started, watched and ended.

Each node's process is held by a pidfd. It becomes readable when the process ends, whoever killed
it, so nothing is polled; and a signal sent through it cannot hit another process that got the same
number. The wait status (signal or exit code) comes from the fork server, whose child it was.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.machines.launch import ForkServer, LaunchError, Order
from orchestrator.machines.machine import how_it_ended


@dataclass
class Process:
    """One node's process; ``pid`` stays that of the last life after death."""

    name: str
    incarnation: int = 0
    pid: int = 0
    pidfd: int = -1
    since_ns: int = 0
    signal: int | None = None
    exit_code: int | None = None

    @property
    def alive(self) -> bool:
        return self.pidfd >= 0

    def death(self) -> str:
        """How it ended, in words."""
        return how_it_ended(self.signal, self.exit_code)

    def stopped(self) -> bool:
        """Whether it is stopped (SIGSTOP), by us or by somebody else."""
        if not self.alive:
            return False
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as stat:
                return stat.read().rpartition(b") ")[2][:1] in (b"T", b"t")
        except OSError:
            return False


class Supervisor:
    """All processes of one machine."""

    def __init__(self, server: ForkServer, names: tuple[str, ...]) -> None:
        self.server = server
        self.processes = {name: Process(name) for name in names}
        #: called with each process that was found dead
        self.on_death: Callable[[Process], None] = lambda process: None

    def start(self, orders: list[Order]) -> None:
        """Start processes. LaunchError if that is impossible."""
        pids = self.server.start(orders)
        for order, pid in zip(orders, pids, strict=True):
            process = self.processes[order.name]
            process.incarnation = order.incarnation
            process.pid = pid
            process.pidfd = os.pidfd_open(pid)
            process.since_ns = time.monotonic_ns()
            process.signal = process.exit_code = None

    def by_pidfd(self) -> Mapping[int, Process]:
        """Living processes by their descriptors."""
        return {p.pidfd: p for p in self.processes.values() if p.alive}

    def send_signal(self, name: str, signo: int) -> None:
        """Signal a node's process; ProcessLookupError if it is dead."""
        process = self.processes[name]
        if not process.alive:
            raise ProcessLookupError(f"{name} is dead")
        signal.pidfd_send_signal(process.pidfd, signo)

    def bury(self, process: Process) -> None:
        """Its pidfd is readable: note how it ended."""
        os.close(process.pidfd)
        process.pidfd = -1
        process.since_ns = time.monotonic_ns()
        process.signal = signal.SIGKILL  # by PDEATHSIG, if nobody can say
        try:
            if not self.server.dead:
                self._note(process, self.server.reap(process.pid))
        except LaunchError:
            pass
        self.on_death(process)

    @staticmethod
    def _note(process: Process, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        process.signal = -code if code < 0 else None
        process.exit_code = code if code >= 0 else None

    def wait_dead(self, timeout_ms: int) -> bool:
        """Wait until all processes are dead and buried; False if some live after ``timeout_ms``."""
        deadline = time.monotonic() + timeout_ms / 1000
        while living := self.by_pidfd():
            poll = select.poll()
            for fd in living:
                poll.register(fd, select.POLLIN)
            left_ms = (deadline - time.monotonic()) * 1000
            ready = poll.poll(max(left_ms, 0))
            for fd, _ in ready:
                self.bury(living[fd])
            if not ready and left_ms <= 0:
                return False
        return True

    def close(self, grace_ms: int) -> None:
        """End everything: wait ``grace_ms`` for those who were asked to end, kill the others."""
        for process in self.by_pidfd().values():
            if process.stopped():
                self.send_signal(process.name, signal.SIGKILL)
        if not self.wait_dead(grace_ms):
            for name, process in self.processes.items():
                if process.alive:
                    self.send_signal(name, signal.SIGKILL)
            self.wait_dead(10_000)
        self.server.close()
        for process in self.processes.values():
            if process.alive:
                os.close(process.pidfd)
                process.pidfd = -1
