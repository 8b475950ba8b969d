"""Runtime of the product: one node in one operating-system process, ZeroMQ, the wall clock.

The loop: take in all that has come meanwhile, or wait for a message or the node's next timer; let
the node take one turn; send at most one ZeroMQ message to each peer. What counts for speed is the
number of wake-ups, and that between them there is nothing but these steps.

Waiting: the process blocks in ``select``, because epoll and ZeroMQ's own poll count in whole
milliseconds, on the inbox's descriptor and on one epoll set with all that seldom speaks (the
monitors, the wires to other hosts). ZeroMQ's descriptors are edge-triggered: they tell of news only
after the socket was found empty, so the inbox is always drained before the next wait.
An idle node uses no CPU time.

A node begins when the orchestrator says so, by its first ``Heartbeat``: that is when every process
of the machine is connected, so that nothing of a machine's first moments is lost. Until then its
page says ``starting`` and how many links are up.

No input ends a node: what does not fit is counted (``rejected``, ``stale``), the fault is written
to the node's log with its sender, and dropped. An exception out of the node itself is our fault:
it is logged, counted in ``errors``, and ends the process with ``EXIT_FAULT``.
"""

from __future__ import annotations

import gc
import os
import random
import select
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import zmq

from bus.codec import BATCH_BYTES_MAX, MESSAGES_MAX, decode_batch, encode_batch
from bus.links import (
    CONTROL_INCARNATION,
    CONTROL_NUMBER,
    EVENTS,
    HEADER_BYTES,
    NOBLOCK,
    POLLIN,
    Inbox,
    Link,
    header,
)
from bus.messages import CONTROL, Heartbeat, HeartbeatAck, PeerBack, PeerLost, Shutdown
from bus.node import BUDGET, NOW, Node, Surroundings
from bus.ram import COMMON_SCHEMA, Layout, Ram
from bus.simulation import Place
from bus.vfio_server import GUEST, GuestPort, PortPlan
from bus.wires import WirePlan, Wires

EXIT_FAULT = 3
#: Batches taken in one drain; the rest comes after the turn, so that a flood cannot stop a node.
DRAIN_BATCHES = 256
#: Lines about faults of others that the log takes in one second.
LOG_LINES_PER_S = 20

#: A process is not woken for a timer that only batches (a NIC's held write-backs) before this much
#: later, in the hope of another reason: a wake-up costs as much as all the work of a packet.
TIMER_SLACK_NS = 500_000

#: Longest wait in one go: select(2) takes no time-out that a timer of a node could not exceed.
WAIT_NS_MAX = 3_600_000_000_000

STARTING, RUNNING, ENDED = 1, 2, 3

_NOBODY = ("", 0)

_STATE = COMMON_SCHEMA.index("state")
_LINKS_UP = COMMON_SCHEMA.index("links_up")
_TURNS = COMMON_SCHEMA.index("turns")
_WAKEUPS = COMMON_SCHEMA.index("wakeups")
_MSGS_IN = COMMON_SCHEMA.index("msgs_in")
_MSGS_OUT = COMMON_SCHEMA.index("msgs_out")
_SEND_FULL = COMMON_SCHEMA.index("send_full")
_SEND_DEAD = COMMON_SCHEMA.index("send_dead")
_STALE = COMMON_SCHEMA.index("stale")
_REJECTED = COMMON_SCHEMA.index("rejected")
_ERRORS = COMMON_SCHEMA.index("errors")


class Plan(NamedTuple):
    """All that a process must know to be a node."""

    name: str
    incarnation: int
    place: Place
    layout: Layout
    ram_path: str
    listen_fd: int
    socket_directory: str  # short: together with a node's name at most 107 bytes
    control_pid: int
    seed: str
    wires: WirePlan | None = None


class FaultLog:
    """Lines to standard error about what others did wrong, a bounded number in each second."""

    def __init__(self, name: str, clock: Callable[[], int]) -> None:
        self._name = name
        self._clock = clock
        self._second = 0
        self._lines = 0
        self._unsaid = 0

    def write(self, text: str) -> None:
        second = self._clock() // 1_000_000_000
        if second != self._second:
            if self._unsaid:
                self._print(f"{self._unsaid} more faults, not listed")
            self._second, self._lines, self._unsaid = second, 0, 0
        self._lines += 1
        if self._lines <= LOG_LINES_PER_S:
            self._print(text)
        else:
            self._unsaid += 1

    def _print(self, text: str) -> None:
        print(f"{self._clock() / 1e9:.6f} {self._name}: {text}", file=sys.stderr, flush=True)


class NodeProcess:
    """One node, its links, and the loop that drives it."""

    def __init__(self, plan: Plan) -> None:
        clock = time.monotonic_ns
        self.incarnation = plan.incarnation
        self.ram = Ram.open(plan.ram_path, plan.layout)
        self.ram.set_pid(plan.name, os.getpid())
        page = self.ram.page(plan.name)
        page["incarnation"] = plan.incarnation
        page["started_ns"] = clock()
        page["state"] = STARTING
        self.words = page.words
        self.clock = clock
        self.log = FaultLog(plan.name, clock)
        self.went = False
        self.ended = False
        self._control_pid = plan.control_pid
        self._inbox: list[tuple[str, Any]] = []
        self._unseen = True  # the inbox may hold more than what was taken
        rng = random.Random(plan.seed)
        self.node: Node = plan.place.build(
            Surroundings(plan.name, plan.incarnation, clock, self.ram, page, rng, 0, TIMER_SLACK_NS)
        )
        self._wires: Wires | None = None
        self._port: GuestPort | None = None
        self._header = header(self.ram.number(plan.name))
        #: who says something by the first bytes of it, and where in RAM its incarnation stands
        self._senders = {
            header(self.ram.number(p)): (p, self.ram.incarnation_word(p)) for p in plan.place.peers
        }
        self._senders[header(CONTROL_NUMBER)] = (CONTROL, -1)
        self._connect(plan)

    def _connect(self, plan: Plan) -> None:
        self._epoll = select.epoll()  # first: ``select`` takes descriptors below 1024 only
        context: zmq.Context[Any] = zmq.Context()
        where = plan.socket_directory
        self._bus = Inbox(context, plan.listen_fd, f"{where}/{plan.name}")
        self._waiting = (self._bus.fd, self._epoll.fileno())
        self._links = {
            peer: Link(context, peer, f"{where}/{peer}") for peer in (CONTROL, *plan.place.peers)
        }
        self._by_monitor = {link.monitor_fd: link for link in self._links.values()}
        for fd in (self._bus.monitor_fd, *self._by_monitor):
            self._epoll.register(fd, select.EPOLLIN)
        if plan.wires is not None:
            self._wires = Wires(plan.wires, self._epoll, self._put)
        if plan.place.port is not None:
            file, card = plan.place.port
            port = PortPlan(f"{where}/{file}", card)
            self._port = GuestPort(port, self._epoll, self._put, self.log.write)
        # ZeroMQ's descriptors tell of news only after a first look.
        self._drain()
        for fd in (self._bus.monitor_fd, *self._by_monitor):
            self._look(fd)

    def _put(self, said: tuple[str, Any]) -> None:
        """What a wire or a guest says, for the next turn."""
        self._inbox.append(said)

    # -- the loop

    def run(self) -> int:
        """Wait for the go, then live; the exit code."""
        while not (self.went or self.ended):
            self._await(None)
        try:
            self._live()
        except Exception:
            self.words[_ERRORS] += 1
            traceback.print_exc()
            return EXIT_FAULT
        self.words[_STATE] = ENDED
        return 0

    def _live(self) -> None:
        node, words, clock = self.node, self.words, self.clock
        turn, send, sleep = node.turn, self._send, self._await
        wake: int | None = NOW
        while not self.ended:
            if wake == NOW or self._inbox:  # sending may end a guest's port
                sleep(0)
            elif wake is None:
                sleep(None)
            else:
                sleep(max(0, min(wake - clock(), WAIT_NS_MAX)) * 1e-9)
            inbox = self._inbox
            if inbox:
                self._inbox = []
            elif wake is None or wake > clock():
                continue
            words[_TURNS] += 1
            wake = turn(inbox, BUDGET)
            outbox = node.outbox
            if outbox:
                node.outbox = {}
                for peer, messages in outbox.items():
                    send(peer, messages)

    def _await(self, seconds: float | None) -> None:
        """Take in what has come; if that is nothing, wait for something, no longer than that.

        Of what ends the wait only the first batch is taken: whether there is more costs as much to
        find out as to take it, and nearly always there is no more. So that is looked at here, the
        next time, when the first has been answered."""
        if self._unseen and self._drain():
            seconds = 0
        ready = select.select(self._waiting, (), (), seconds)[0]
        if seconds != 0:
            self.words[_WAKEUPS] += 1
        if self._bus.fd in ready:
            self._unseen = True
            try:  # noqa: SIM105  (on each packet's way, and ``suppress`` is dear)
                self._take(self._bus.receive(NOBLOCK))
            except zmq.Again:
                pass
        if self._waiting[1] in ready:
            for fd, _ in self._epoll.poll(0, 64):
                self._look(fd)

    # -- out

    def _send(self, peer: str, messages: list[Any]) -> None:
        link = self._links.get(peer)
        if link is None:
            self._send_outside(peer, messages)
            return
        if not link.up:
            self.words[_SEND_DEAD] += len(messages)
            self.node.undelivered(peer, messages, True)
            return
        data = self._header + encode_batch(self.incarnation, link.incarnation, messages)
        count = len(messages)
        sent = len(data) <= BATCH_BYTES_MAX and count <= MESSAGES_MAX
        if sent:
            try:
                link.put(data, NOBLOCK)  # what ``link.send`` does, without a call
            except zmq.Again:
                sent = link.put_again(data)
        self.words[_MSGS_OUT if sent else _SEND_FULL] += count
        if not sent:
            self.node.undelivered(peer, messages, False)

    def _send_outside(self, peer: str, messages: list[Any]) -> None:
        left, dead = messages, True
        if peer == GUEST:
            if self._port is not None:
                left = self._port.send(messages)
        elif self._wires is not None:
            left, dead = self._wires.send(peer, messages)
        self.words[_MSGS_OUT] += len(messages) - len(left)
        if left:
            self.words[_SEND_DEAD if dead else _SEND_FULL] += len(left)
            self.node.undelivered(peer, left, dead)

    # -- in

    def _look(self, fd: int) -> None:
        """Something happened at the descriptor ``fd`` of the epoll set."""
        if fd in self._by_monitor:
            self._link_changed(self._by_monitor[fd])
        elif not any(outside.look(fd) for outside in (self._port, self._wires) if outside):
            for fault in self._bus.faults(self._is_member):
                self._reject(fault)

    def _drain(self) -> bool:
        """Take in what waits, or a bounded part of it; was there anything? ZeroMQ's descriptor
        tells of news only after a look at its events that found nothing."""
        receive, events, take = self._bus.receive, self._bus.events, self._take
        for taken in range(DRAIN_BATCHES):
            if not events(EVENTS) & POLLIN:
                self._unseen = False
                return taken > 0
            take(receive(NOBLOCK))
        return True

    def _take(self, data: bytes) -> None:
        """One batch from the wire into the inbox."""
        sender, life = self._senders.get(data[:HEADER_BYTES], _NOBODY)
        if not sender or len(data) > BATCH_BYTES_MAX:
            self._reject(f"{len(data)} bytes of {sender or 'nobody of its peers'}: not a batch")
            return
        sent_by, sent_to, messages, faults = decode_batch(data[HEADER_BYTES:])
        if faults:
            for fault in faults:
                self._reject(f"{sender}: {fault}")
        if not messages:
            return
        if sent_to != self.incarnation or (life >= 0 and sent_by != self.ram.words64[life]):
            self.words[_STALE] += len(messages)
            return
        if sender == CONTROL:
            messages = [m for m in messages if not self._control(m)]
        self.words[_MSGS_IN] += len(messages)
        put = self._inbox.append
        for message in messages:
            put((sender, message))

    def _control(self, message: Any) -> bool:
        """What the runtime answers itself."""
        if type(message) is Heartbeat:
            if not self.went:
                self.went = True
                self.words[_STATE] = RUNNING
            if self._links[CONTROL].up:  # else it hears of us when the link is up
                self._send(CONTROL, [HeartbeatAck(message.sequence)])
            return True
        if type(message) is Shutdown:
            self.ended = True
            return True
        return False

    def _link_changed(self, link: Link) -> None:
        for change in link.changes():
            if link.peer == CONTROL:
                link.incarnation = CONTROL_INCARNATION
                continue
            if change.up:
                link.incarnation = self.ram.incarnation(link.peer)
                self._inbox.append((link.peer, PeerBack(link.incarnation)))
            else:
                self._drain()  # what the peer said before it died comes first
                self._inbox.append((link.peer, PeerLost(link.incarnation)))
        up = sum(1 << self.ram.number(n) for n, li in self._links.items() if li.up and n != CONTROL)
        self.words[_LINKS_UP] = up & 0xFFFF_FFFF_FFFF_FFFF
        self.words[_LINKS_UP + 1] = up >> 64
        if self._links[CONTROL].up:
            self._send(CONTROL, [HeartbeatAck(0)])  # "look at my page"

    def _reject(self, fault: str) -> None:
        self.words[_REJECTED] += 1
        self.log.write(fault)

    def _is_member(self, pid: int) -> bool:
        return pid == self._control_pid or any(pid == self.ram.pid(name) for name in self.ram)


def run(plan: Plan) -> int:
    """Be the node of ``plan`` until it ends; the exit code of the process."""
    try:
        process = NodeProcess(plan)
        gc.collect()
        gc.freeze()
        # What lives long is frozen; a collection now and then looks at young objects only.
        gc.set_threshold(20_000, 20, 20)
        return process.run()
    except Exception:
        traceback.print_exc()
        return EXIT_FAULT
