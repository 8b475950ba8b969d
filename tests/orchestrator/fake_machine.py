"""A machine without nodes: it keeps book of what is done to it and answers as told.

Time is virtual and passes only in ``pump``. Its one talent is a ping: a program ``ping`` sends a
request each 10 ms and gets a reply 400 us later, unless the machine is ``deaf`` at that moment.
"""

from __future__ import annotations

import heapq
import signal as signals
from collections.abc import Callable
from typing import Any

from bus.messages import CPU_MASK_ALL
from bus.ram import Ram
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import MachineSettings
from orchestrator.configuration import config
from orchestrator.machines.machine import Job, Machine, NodeState, Request

BOOT_NS = 1_000_000_000
INTERVAL_NS = 10_000_000
TRIP_NS = 400_000


class FakeMachine(Machine):
    """See the module's text."""

    runtime = "simulation"

    def __init__(self, settings: MachineSettings | None = None, pids: bool = True) -> None:
        self.settings = settings or config.load()
        self.ram = Ram.anonymous(self.settings.layout())
        self.ram.boot_ns = BOOT_NS
        self.now = BOOT_NS
        self.calls: list[tuple[Any, ...]] = []
        self.deaf_until = 0
        self.closed = False
        self.snapshots: dict[tuple[str, str], Any] = {}
        self.programs: dict[str, Callable[[FakeMachine, Job], None]] = {}
        self.hung: set[str] = set()
        self.sent: list[int] = []
        self.received: dict[int, int] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._number = 0
        self._states = {
            name: NodeState(
                name, 41200 + i if pids else None, 1, True, False, False, None, None, BOOT_NS
            )
            for i, name in enumerate(self.settings.node_names)
        }
        boot = self.ram.page("cpu0", CPU_SCHEMA)
        boot["bond_active"] = 1
        for number, _ in enumerate(self.settings.nics):
            boot.words[CPU_SCHEMA.index("bond_slave_link") + number] = 1
            boot.words[CPU_SCHEMA.index("nic_flags") + number] = 15
        for name in self.settings.cpu_names:
            self.ram.page(name, CPU_SCHEMA)["online"] = 1

    # -- time

    def now_ns(self) -> int:
        return self.now

    def pump(self, until_ns: int, stop: Callable[[], bool] | None = None) -> None:
        while self._events and self._events[0][0] <= until_ns:
            at, _, event = heapq.heappop(self._events)
            self.now = max(self.now, at)
            event()
            if stop is not None and stop():
                return
        self.now = max(self.now, until_ns)

    def at(self, time_ns: int, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (time_ns, self._order, event))

    def later(self, delay_ns: int, event: Callable[[], None]) -> None:
        self.at(self.now + delay_ns, event)

    def log(self, text: str, cpu: int = 0) -> None:
        """The kernel logs a line now."""
        self.ram.log(cpu).append(self.now - BOOT_NS, 6, text)

    def set_active(self, nic: str) -> None:
        self.ram.page("cpu0", CPU_SCHEMA)["bond_active"] = self.settings.nic_names.index(nic) + 1

    # -- questions and programs

    def ask(self, node: str, what: str) -> Request:
        self.calls.append(("ask", node, what))
        self._number += 1
        request = Request(node, self._number)
        if node not in self.hung:
            self.later(1000, lambda: self._answer(request, what))
        return request

    def _answer(self, request: Request, what: str) -> None:
        request.done = True
        key = (request.node, what)
        if what.startswith("ping:"):
            first = int(what.partition(":")[2])
            chunk = self.sent[first - 1 : first + 499]
            request.ok, request.value = (
                True,
                {
                    "first": first,
                    "total": len(self.sent),
                    "sent": chunk,
                    "received": [self.received.get(first + n, 0) for n in range(len(chunk))],
                    "duplicates": 0,
                },
            )
        elif key in self.snapshots:
            request.ok, request.value = True, self.snapshots[key]
        else:
            request.failed = f"no snapshot {what}"

    def cable(self, nic: str, inserted: bool) -> Request:
        self.calls.append(("cable", nic, inserted))
        self._number += 1
        request = Request("lan", self._number, done=True, ok=True)
        if not inserted:
            self.fail_over_from(nic, after_ns=102_000_000)
        return request

    def fault(
        self, node: str, kind: str, value: int, for_ns: int, on: bool, port: str = ""
    ) -> Request:
        self.calls.append(("fault", node, kind, value, for_ns, on, *([port] if port else [])))
        self._number += 1
        return Request(node, self._number, done=True, ok=True, value=0)

    def fail_over_from(self, nic: str, after_ns: int) -> None:
        """``nic`` is lost: nothing comes back until the kernel notices."""
        others = [name for name in self.settings.nic_names if name != nic]
        self.deaf_until = self.now + after_ns

        def notice() -> None:
            self.log(f"bond0: (slave {nic}): link status definitely down, disabling slave")
            self.log(f"bond0: (slave {others[0]}): making interface the new active one")
            self.set_active(others[0])

        self.later(after_ns, notice)

    def spawn(self, cpu: str, argv: tuple[str, ...], cpus_allowed: int = CPU_MASK_ALL) -> Job:
        self.calls.append(("spawn", cpu, *argv))
        self._number += 1
        job = Job(cpu, self._number, argv)
        program = self.programs.get(argv[0])
        if program is not None:
            program(self, job)
        elif argv[0] == "ping":
            self._ping(job)
        else:
            self.later(1000, lambda: setattr(job, "exit_code", 0))
        return job

    def _ping(self, job: Job) -> None:
        if job.done:
            return
        self.sent.append(self.now)
        number = len(self.sent)
        if self.now >= self.deaf_until:
            self.later(TRIP_NS, lambda: self._reply(job, number))
        self.later(INTERVAL_NS, lambda: self._ping(job))

    def _reply(self, job: Job, number: int) -> None:
        if self.now >= self.deaf_until:
            self.received[number] = self.now
            job.output.append((1, f"64 bytes from 192.168.1.1: icmp_seq={number}\n"))

    def signal(self, job: Job, signo: int) -> None:
        self.calls.append(("signal", job.argv[0], signo))
        if signo == signals.SIGINT and job.argv[0] == "ping":
            job.output.append((1, "--- 192.168.1.1 ping statistics ---\n"))
            job.exit_code = 0

    # -- processes

    def _change(self, node: str, **changes: Any) -> None:
        self._states[node] = self._states[node]._replace(**changes)

    def kill(self, node: str) -> None:
        self.calls.append(("kill", node))
        self._change(node, alive=False, frozen=False, signal=9, since_ns=self.now)
        if node in self.settings.nic_names:
            self.fail_over_from(node, after_ns=2_000_000_000)

    def pull(self, nic: str) -> None:
        self.calls.append(("pull", nic))
        self._change(nic, alive=False, frozen=False, signal=9, since_ns=self.now, pulled=True)
        self.fail_over_from(nic, after_ns=2_000_000_000)

    def freeze(self, node: str) -> None:
        self.calls.append(("freeze", node))
        self._change(node, frozen=True)

    def thaw(self, node: str) -> None:
        self.calls.append(("thaw", node))
        self._change(node, frozen=False)

    def restart(self, node: str) -> None:
        self.calls.append(("restart", node))
        old = self._states[node]
        pid = None if old.pid is None else old.pid + 100
        self._states[node] = NodeState(
            node, pid, old.incarnation + 1, True, False, False, None, None, self.now
        )

    def state(self, node: str) -> NodeState:
        return self._states[node]

    def archived_page(self, node: str, incarnation: int) -> dict[str, int | list[int]] | None:
        return None

    def close(self) -> None:
        self.closed = True
