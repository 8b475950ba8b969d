"""A machine of processes: the product. See ``orchestrator.machines.machine`` for the interface.

The orchestrator is a peer on the bus like the others (``ctl``): a PULL inbox, a PUSH to each node.
``pump`` waits, in one epoll set, for messages, for the end of a process (pidfds), for the end of
the fork server, and for whatever the caller registered with ``watch_fd``.

Starting: run directory, RAM file, fork server, processes; when all of them are connected to all
their peers (each node's page tells), the first heartbeat lets them go. ``close`` may be called at
any time and more than once; it leaves no process, no socket and no file.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from bus.codec import decode_batch, encode_batch
from bus.links import (
    CONTROL_INCARNATION,
    CONTROL_NUMBER,
    HEADER_BYTES,
    Inbox,
    Link,
    header,
    listen,
    receive_all,
)
from bus.messages import Heartbeat, HeartbeatAck, Shutdown
from bus.ram import COMMON_SCHEMA, Ram
from bus.simulation import Place
from nodes.machine import CONTROL, LAN, MachineSettings
from orchestrator.machines import places as known_places
from orchestrator.machines.launch import RAM_FILE, ForkServer, LaunchError, Order, Outside
from orchestrator.machines.local import LocalMachine
from orchestrator.machines.machine import GUEST_PLACE, NodeState
from orchestrator.machines.placement import processors
from orchestrator.machines.rundir import RunDir, running_machines
from orchestrator.machines.supervise import Process, Supervisor
from orchestrator.machines.uplink import UPLINK_FILE, Namespace

HEARTBEAT_NS = 500_000_000
#: A node that owes an answer for longer is shown as silent.
SILENT_NS = 1_500_000_000
START_GUARD_MS = 20_000
CLOSE_GRACE_MS = 1000
LOG_LINES_SHOWN = 12

_LINKS_UP = COMMON_SCHEMA.index("links_up")


class MachineLostError(Exception):
    """The fork server died, and by that all nodes: only ``close`` makes sense now."""


def _running_addresses() -> Mapping[str, str]:
    from orchestrator.machines import running  # noqa: PLC0415

    return running.addresses()


class ProcessMachine(LocalMachine):
    """One process for each node, started when the object is made.

    ``places`` overrides the nodes that the settings call for (tests); ``cpu`` binds all nodes to
    one processor, or each to its own by name; ``base`` is the directory for the run directory.
    Raises ``RunDirError`` (a machine of that name runs, no place) or ``LaunchError``."""

    runtime = "processes"

    @property
    def over(self) -> bool:
        """Has the machine ended by itself? Ours never do."""
        return False

    def __init__(
        self,
        settings: MachineSettings,
        places: Mapping[str, Place] | None = None,
        *,
        config: str = "",
        base: Path | None = None,
        cpu: int | Mapping[str, int] | None = None,
        seed: str = "",
    ) -> None:
        super().__init__(settings, places)
        self.others = _running_addresses
        self._cpu = processors(settings) if cpu is None else cpu
        self._seed = seed or os.urandom(8).hex()
        self._cleanup = ExitStack()
        self._lost = ""
        self._handlers: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._sequence = 0
        self._next_beat_ns = time.monotonic_ns() + (1 << 62)
        self._unanswered: dict[str, int] = {}
        self._silent: set[str] = set()
        self.rejected = 0  # messages to the orchestrator that did not fit the vocabulary
        layout = settings.layout()
        self.rundir = RunDir.create(settings.name, base, settings.memory_bytes)
        self._cleanup.callback(self.rundir.remove)
        try:
            outside = None if places is not None else self._outside(base)
            preload = known_places.MODULES if places is None else ()
            server = ForkServer(self.rundir, preload, outside)
            self._cleanup.callback(server.close)
            # The fork server and this process import the nodes side by side.
            self._places = known_places.places(settings) if places is None else places
            self.ram = Ram.create(str(self.rundir.path / RAM_FILE), layout)
            self._cleanup.callback(self.ram.close)
            self.ram.power_on(time.monotonic_ns(), time.time_ns())
            self._connect()
            self._supervisor = Supervisor(server, tuple(self._places))
            self._supervisor.on_death = self._died
            self._cleanup.callback(self._end_processes)
            server.commission(layout, self._places, self._seed)
            self.watch_fd(server.fileno(), self._server_died)
            self._start(tuple(self._places))
            self.rundir.write_info(config, time.time())
        except BaseException:
            self.close()
            raise

    # -- starting

    def _outside(self, base: Path | None) -> Outside:
        """The LAN's wires: another machine's switch, or a TAP device in a namespace of its own."""
        lan = self.settings.lan
        if lan.uplink == "tap":
            namespace = Namespace(self.settings.gateway)
            self._cleanup.callback(namespace.close)
            (self.rundir.path / UPLINK_FILE).write_text(f"{namespace.pid}\n")
            return Outside(LAN, tap_fd=namespace.tap_fd)
        if lan.join:
            for machine in running_machines(base):
                if machine.name == lan.join:
                    return Outside(LAN, join=str(machine.directory))
            raise LaunchError(f"there is no machine {lan.join} to join")
        return Outside(LAN)

    def _connect(self) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._cleanup.callback(self._disconnect)
        path = self.rundir.socket_path(CONTROL)
        self._bus = Inbox(self._context, listen(path).detach(), path)
        self._senders = {header(self.ram.number(name)): name for name in self._places}
        self._header = header(CONTROL_NUMBER)
        self._links: dict[str, Link] = {}
        for name in self._places:
            link = Link(self._context, name, self.rundir.socket_path(name))
            self._links[name] = link
            self.watch_fd(link.monitor_fd, partial(self._link_changed, link))
        self.watch_fd(self._bus.fd, self._drain)
        self.watch_fd(self._bus.monitor_fd, self._count_faults)
        for handler in tuple(self._handlers.values()):
            handler()  # ZeroMQ's descriptors tell of news only after a first look

    def _start(self, names: Sequence[str]) -> None:
        """Start processes and wait until they and their peers are connected; then the go."""
        orders = []
        for name in names:
            incarnation = self.ram.incarnation(name) + 1
            self.ram.set_incarnation(name, incarnation)
            orders.append(Order(name, incarnation, self._processor(name)))
        self._supervisor.start(orders)
        for order in orders:
            process = self._supervisor.processes[order.name]
            self.watch_fd(process.pidfd, partial(self._bury, process))
        names = [order.name for order in orders]
        self._await(lambda: all(self._connected(n) for n in names), names, "did not connect")
        self._beat()
        self._await(
            lambda: all(self.ram.page(n)["state"] != 1 for n in names), names, "did not start"
        )

    def _processor(self, name: str) -> int | None:
        return self._cpu.get(name) if isinstance(self._cpu, Mapping) else self._cpu

    def _await(self, done: Callable[[], bool], names: Sequence[str], what: str) -> None:
        """Pump until ``done``; LaunchError if one of ``names`` dies or the guard runs out."""
        processes = self._supervisor.processes

        def settled() -> bool:
            return done() or not all(processes[n].alive for n in names)

        in_time = self.wait(settled, START_GUARD_MS)
        for name in names:
            if not processes[name].alive:
                raise LaunchError(
                    f"{name} ended while it was started: {processes[name].death()}"
                    + self._log_tail(name)
                )
        if not in_time:
            raise LaunchError(f"{', '.join(names)} {what} within {START_GUARD_MS // 1000} s")

    def _log_tail(self, name: str) -> str:
        try:
            lines = (self.rundir.path / f"{name}.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "".join(f"\n  {line}" for line in lines[-LOG_LINES_SHOWN:])

    def _reaches(self, name: str, peer: str) -> bool:
        """Whether the link from ``name`` to ``peer`` is up, as the page of ``name`` tells."""
        number = self.ram.number(peer)
        word: int = self.ram.page(name).words[_LINKS_UP + number // 64]
        return bool(word >> number % 64 & 1)

    def _connected(self, name: str) -> bool:
        """Linked with the orchestrator and, both ways, with each peer that can answer."""
        link = self._links[name]
        if not link.up or link.incarnation != self.ram.incarnation(name):
            return False
        return all(
            self._reaches(name, peer) and self._reaches(peer, name)
            for peer in self._living_peers(name)
        )

    def _living_peers(self, name: str) -> list[str]:
        processes = self._supervisor.processes
        return [
            peer
            for peer in self._places[name].peers
            if processes[peer].alive and not processes[peer].stopped()
        ]

    # -- the loop

    @property
    def server_pid(self) -> int:
        """Process of the fork server."""
        return self._supervisor.server.pid

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def watch_fd(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` from ``pump`` when ``fd`` is readable. PermissionError for a plain
        file, which always is."""
        self._epoll.register(fd, select.EPOLLIN)
        self._handlers[fd] = callback

    def unwatch_fd(self, fd: int) -> None:
        """Forget ``fd``; call it before closing it."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def pump(self, until_ns: int, stop: Callable[[], bool] | None = None) -> None:
        """See ``Machine.pump``. ``MachineLostError`` when the fork server was killed."""
        waiting = (self._epoll.fileno(),)
        while True:
            now = time.monotonic_ns()
            left_ns = min(until_ns, self._next_beat_ns) - now
            if left_ns > 0:
                select.select(waiting, (), (), left_ns * 1e-9)
            ready = self._epoll.poll(0)
            for fd, _ in ready:
                handler = self._handlers.get(fd)
                if handler is not None:  # another handler may have unwatched it
                    handler()
            if self._lost:
                raise MachineLostError(self._lost)
            if time.monotonic_ns() >= self._next_beat_ns:
                self._beat()
            if ready and stop is not None and stop():
                return
            if now >= until_ns:
                return

    def _drain(self) -> None:
        for data in receive_all(self._bus.events, self._bus.receive):
            sender = self._senders.get(data[:HEADER_BYTES])
            batch = decode_batch(data[HEADER_BYTES:])
            if sender is None or batch.faults:
                self.rejected += 1
                continue
            if batch.sender_incarnation != self.ram.incarnation(sender):
                continue  # the last words of a life that ended: its requests failed with it
            for message in batch.messages:
                if type(message) is not HeartbeatAck:
                    self._file(sender, message)
                elif message.sequence:
                    self._unanswered.pop(sender, None)
                    self._silent.discard(sender)

    def _count_faults(self) -> None:
        members = {self.ram.pid(name) for name in self._places}
        self.rejected += len(self._bus.faults(lambda pid: pid in members))

    def _link_changed(self, link: Link) -> None:
        link.changes()
        link.incarnation = self.ram.incarnation(link.peer)

    def _beat(self) -> None:
        """A heartbeat to every node, the more seldom the more nodes there are."""
        now = time.monotonic_ns()
        if not self.rundir.path.exists():
            self._lost = f"its run directory {self.rundir.path} is gone"
        self._next_beat_ns = now + max(HEARTBEAT_NS, 20_000_000 * len(self._places))
        self._silent = {n for n, since in self._unanswered.items() if now - since > SILENT_NS}
        self._sequence += 1
        for name, link in self._links.items():
            if link.up and self._send(name, Heartbeat(self._sequence)):
                self._unanswered.setdefault(name, now)

    def _send(self, name: str, message: Any) -> bool:
        link = self._links[name]
        batch = encode_batch(CONTROL_INCARNATION, self.ram.incarnation(name), (message,))
        return link.up and link.send(self._header + batch)

    # -- life and death

    def _bury(self, process: Process) -> None:
        self.unwatch_fd(process.pidfd)
        self._supervisor.bury(process)

    def _died(self, process: Process) -> None:
        self._unanswered.pop(process.name, None)
        self._silent.discard(process.name)
        self._desk.node_died(
            process.name, f"{process.name} died ({self.state(process.name).cause})"
        )

    def _server_died(self) -> None:
        server = self._supervisor.server
        server.dead = True
        self.unwatch_fd(server.fileno())
        self._lost = f"the fork server (pid {server.pid}) died, and all nodes with it"

    def kill(self, node: str) -> None:
        """SIGKILL; returns when the process is dead. ProcessLookupError if it was."""
        self._supervisor.send_signal(node, signal.SIGKILL)
        process = self._supervisor.processes[node]
        self.wait(lambda: not process.alive, START_GUARD_MS)

    def freeze(self, node: str) -> None:
        self._supervisor.send_signal(node, signal.SIGSTOP)

    def thaw(self, node: str) -> None:
        self._supervisor.send_signal(node, signal.SIGCONT)

    def restart(self, node: str) -> None:
        """See ``Machine.restart``. ValueError if the node is alive."""
        process = self._supervisor.processes[node]
        if process.alive:
            raise ValueError(f"{node} is alive")
        self._await(
            lambda: not any(self._reaches(peer, node) for peer in self._living_peers(node)),
            self._living_peers(node),
            f"did not notice the death of {node}",
        )
        self._keep_page(node)
        self.ram.clear_page(node)
        self._start((node,))

    def state(self, node: str) -> NodeState:
        process = self._supervisor.processes[node]
        return NodeState(
            node,
            process.pid,
            process.incarnation,
            process.alive,
            process.stopped(),
            node in self._silent,
            process.signal,
            process.exit_code,
            process.since_ns,
            not process.alive and node in self._pulled,
        )

    def _deliver(self, node: str, message: Any) -> str:
        if node == GUEST_PLACE:
            return "its guest was started by somebody else: say it inside"
        process = self._supervisor.processes[node]
        if not process.alive:
            return f"{node} is dead ({self.state(node).cause})"
        return "" if self._send(node, message) else f"{node} takes no more messages"

    # -- the end

    def close(self) -> None:
        """End all nodes and leave nothing behind; may be called again."""
        self._cleanup.close()

    def _end_processes(self) -> None:
        for name in self._links:
            self._send(name, Shutdown(0))
        self._supervisor.close(CLOSE_GRACE_MS)

    def _disconnect(self) -> None:
        for link in self._links.values():
            link.close()
        self._bus.close()
        self._context.term()
        self._epoll.close()
