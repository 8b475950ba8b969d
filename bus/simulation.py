"""Runtime of the microscope: all nodes in one process, a virtual clock, a seed, no sleeps.

Events wait in a heap ordered by (virtual time, order of creation), so the same nodes with the same
seed give the same run byte for byte. A message takes its link's latency plus a seeded jitter; a
turn of a CPU takes ``step_ns`` for each instruction boundary it passed. What the process runtime
gets from the operating system stands here as methods: ``kill``, ``freeze``, ``thaw``, ``restart``.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bus.messages import CONTROL, PeerBack, PeerLost
from bus.node import BUDGET, Node, Surroundings
from bus.ram import COMMON_SCHEMA, Layout, Page, Ram
from bus.vfio_user import Card

STEP_NS = 250
#: Virtual time after which a node learns that a peer is gone or there: the PCIe or fibre link.
LINK_EVENT_NS = 1000
#: Messages that may wait for one node; more are dropped and counted, as ZeroMQ's high-water mark.
QUEUE_MESSAGES = 1000
#: Virtual time of the first turn of a machine: it must not be 0, which means NOW.
START_NS = 1_000_000_000

_TURNS = COMMON_SCHEMA.index("turns")
_MSGS_IN = COMMON_SCHEMA.index("msgs_in")
_MSGS_OUT = COMMON_SCHEMA.index("msgs_out")
_SEND_FULL = COMMON_SCHEMA.index("send_full")
_SEND_DEAD = COMMON_SCHEMA.index("send_dead")

NodeFactory = Callable[[Surroundings], Node]
#: latency(sender, receiver) in ns
Latency = Callable[[str, str], int]


class Place(NamedTuple):
    """What the runtime must know of a node: how to build it and whom it is wired to."""

    build: NodeFactory
    peers: tuple[str, ...]
    #: a port to a guest: file of its socket in the run directory, and what the guest shall see
    port: tuple[str, Card] | None = None


class _Edge:
    """A link in one direction, as its sender sees it."""

    def __init__(self, target: _Seat, latency_ns: int) -> None:
        self.target = target
        self.latency_ns = latency_ns
        self.last_arrival = 0


class _Seat:
    """Runtime state of one node."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.node: Node | None = None
        self.page: Page | None = None
        self.inbox: deque[tuple[str, Any]] = deque()
        self.edges: dict[str, _Edge] = {}  # by peer that it has sent something to
        self.busy_until = 0
        self.scheduled_ns: int | None = None
        self.frozen = False


class Simulation:
    """Drives the nodes of one machine over virtual time."""

    def __init__(
        self,
        layout: Layout,
        places: Mapping[str, Place],
        latency: Latency,
        seed: int = 0,
        step_ns: int = STEP_NS,
        budget: int = BUDGET,
        jitter: float = 0.2,
    ) -> None:
        self.ram = Ram.anonymous(layout)
        self.now_ns = START_NS
        self.ram.boot_ns = START_NS
        self.step_ns = step_ns
        self.budget = budget
        self.events = 0
        self._jitter = jitter
        self._latency = latency
        self._seed = seed
        self._rng = random.Random(seed)
        self._heap: list[tuple[int, int, str, str, Any]] = []
        self._order = 0
        self._seats = {name: _Seat(name, place) for name, place in places.items()}
        #: every message at its hand-over: f(now_ns, sender, receiver, message)
        self.watch: Callable[[int, str, str, Any], None] | None = None
        #: while somebody looks: (left, arrives, sender, receiver, message) of every message
        self.flights: list[tuple[int, int, str, str, Any]] | None = None
        #: another machine's: f(now_ns, sender, receiver, messages) for receivers named ``@...``;
        #: and f(node, alive) when a node here died or began
        self.outside: Callable[[int, str, str, list[Any]], None] | None = None
        self.life: Callable[[str, bool], None] | None = None
        #: what the nodes say to the orchestrator, in order
        self.to_orchestrator: deque[tuple[str, Any]] = deque()
        for name in self._seats:
            self._start(self._seats[name])
        for name, seat in self._seats.items():
            for peer in seat.place.peers:
                if peer in self._seats:
                    self._push(self.now_ns, name, peer, PeerBack(1))

    # -- nodes

    def node(self, name: str) -> Node:
        """The live node object; LookupError when it is dead."""
        node = self._seats[name].node
        if node is None:
            raise LookupError(f"{name} is dead")
        return node

    def alive(self, name: str) -> bool:
        return self._seats[name].node is not None

    def frozen(self, name: str) -> bool:
        return self._seats[name].frozen

    def kill(self, name: str) -> None:
        """SIGKILL: the node and all it had not sent are gone; its page stays."""
        seat = self._seats[name]
        seat.node = None
        seat.frozen = False
        seat.inbox.clear()
        # What is on its way to it must not reach its successor, however soon that one starts.
        self._heap[:] = [e for e in self._heap if e[2] != name or e[4] is None]
        heapq.heapify(self._heap)
        self._tell_peers(seat, PeerLost(self.ram.incarnation(name)))
        if self.life is not None:
            self.life(name, False)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it takes no turn; what is sent to it waits, up to the limit."""
        self._seats[name].frozen = True

    def thaw(self, name: str) -> None:
        """SIGCONT: it works off what waited."""
        seat = self._seats[name]
        seat.frozen = False
        self._schedule(seat, self.now_ns)

    def restart(self, name: str) -> None:
        """A new incarnation in the same place, with a fresh page."""
        seat = self._seats[name]
        if seat.node is not None:
            raise ValueError(f"{name} is alive")
        self.ram.clear_page(name)
        self._start(seat)
        incarnation = self.ram.incarnation(name)
        self._tell_peers(seat, PeerBack(incarnation))
        for peer in seat.place.peers:
            if peer in self._seats and self.alive(peer):
                self._push(
                    self.now_ns + LINK_EVENT_NS, name, peer, PeerBack(self.ram.incarnation(peer))
                )
        if self.life is not None:
            self.life(name, True)

    def _start(self, seat: _Seat) -> None:
        incarnation = self.ram.incarnation(seat.name) + 1
        self.ram.set_incarnation(seat.name, incarnation)
        page = self.ram.page(seat.name)
        page["incarnation"] = incarnation
        page["state"] = 2
        page["started_ns"] = self.now_ns
        seat.page = page
        rng = random.Random(f"{self._seed}/{seat.name}/{incarnation}")
        seat.node = seat.place.build(
            Surroundings(seat.name, incarnation, self._clock, self.ram, page, rng, self.step_ns)
        )
        seat.busy_until = self.now_ns
        self._schedule(seat, self.now_ns)

    def _clock(self) -> int:
        return self.now_ns

    def _tell_peers(self, seat: _Seat, event: Any) -> None:
        for name, other in self._seats.items():
            if seat.name in other.place.peers and other.node is not None:
                self._push(self.now_ns + LINK_EVENT_NS, name, seat.name, event)

    # -- messages and time

    @property
    def due_ns(self) -> int:
        """When the next event is due; for ever away if there is none."""
        return self._heap[0][0] if self._heap else 1 << 63

    def arrive(self, time_ns: int, receiver: str, sender: str, message: Any) -> None:
        """A message from another machine, at an absolute time."""
        self._push(time_ns, receiver, sender, message)

    def send(self, receiver: str, message: Any, sender: str = CONTROL) -> None:
        """A message from outside (the orchestrator), delivered at once."""
        self._push(self.now_ns, receiver, sender, message)

    def _push(self, time_ns: int, receiver: str, sender: str, message: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (time_ns, self._order, receiver, sender, message))

    def _schedule(self, seat: _Seat, time_ns: int) -> None:
        """Make sure that the node takes a turn at ``time_ns``, or earlier if it was to."""
        time_ns = max(time_ns, seat.busy_until, self.now_ns)
        if seat.scheduled_ns is not None and seat.scheduled_ns <= time_ns:
            return
        seat.scheduled_ns = time_ns
        self._push(time_ns, seat.name, "", None)

    def next_ns(self) -> int:
        """When something happens next; now, if nothing ever does."""
        return max(self.now_ns, self._heap[0][0]) if self._heap else self.now_ns

    def run_until(self, time_ns: int, stop: Callable[[], bool] | None = None) -> None:
        """Run all events up to ``time_ns`` (absolute), or until ``stop()`` after a turn."""
        heap, seats, pop = self._heap, self._seats, heapq.heappop
        while heap and heap[0][0] <= time_ns:
            now, _, receiver, sender, message = pop(heap)
            self.now_ns = max(self.now_ns, now)
            self.events += 1
            seat = seats[receiver]
            if message is not None:
                self._deliver(seat, sender, message)
                continue
            if seat.scheduled_ns != now:
                continue  # an earlier turn made this one needless
            seat.scheduled_ns = None
            if seat.node is not None and not seat.frozen:
                self._turn(seat)
                if stop is not None and stop():
                    return
        if stop is None or not stop():
            self.now_ns = max(self.now_ns, time_ns)

    def _deliver(self, seat: _Seat, sender: str, message: Any) -> None:
        if seat.node is None:
            return  # on its way when the node died: the edge's counters show it
        if type(message) is list:
            seat.inbox.extend([(sender, each) for each in message])
        else:
            seat.inbox.append((sender, message))
        if not seat.frozen:
            self._schedule(seat, self.now_ns)

    def _turn(self, seat: _Seat) -> None:
        node, page = seat.node, seat.page
        assert node is not None
        assert page is not None
        inbox = list(seat.inbox)
        seat.inbox.clear()
        words = page.words
        words[_TURNS] += 1
        words[_MSGS_IN] += len(inbox)
        wake = node.turn(inbox, self.budget)
        end = self.now_ns + node.steps * self.step_ns
        seat.busy_until = end
        if node.outbox:
            outbox, node.outbox = node.outbox, {}
            for peer, messages in outbox.items():
                self._send(seat, peer, messages, end)
        if wake is not None:
            self._schedule(seat, wake)  # not before ``busy_until``

    def _send(self, seat: _Seat, peer: str, messages: list[Any], time_ns: int) -> None:
        node, page = seat.node, seat.page
        assert node is not None
        assert page is not None
        edge = seat.edges.get(peer)
        if edge is None:
            if peer[0] == "@" and self.outside is not None:
                page.words[_MSGS_OUT] += len(messages)
                self.outside(time_ns, seat.name, peer, messages)
                return
            if peer not in self._seats:
                page.words[_MSGS_OUT] += len(messages)
                self.to_orchestrator.extend((seat.name, m) for m in messages)
                return
            edge = seat.edges[peer] = _Edge(self._seats[peer], self._latency(seat.name, peer))
        target = edge.target
        if target.node is None:
            page.words[_SEND_DEAD] += len(messages)
            node.undelivered(peer, messages, True)
            return
        if target.frozen and len(target.inbox) + len(messages) > QUEUE_MESSAGES:
            page.words[_SEND_FULL] += len(messages)
            node.undelivered(peer, messages, False)
            return
        page.words[_MSGS_OUT] += len(messages)
        latency = edge.latency_ns
        arrival = time_ns + latency + int(latency * self._jitter * self._rng.random())
        arrival = max(arrival, edge.last_arrival)  # a link keeps its order
        edge.last_arrival = arrival
        if self.watch is not None or self.flights is not None:
            for message in messages:
                if self.watch is not None:
                    self.watch(time_ns, seat.name, peer, message)
                if self.flights is not None:
                    self.flights.append((time_ns, arrival, seat.name, peer, message))
        # Nothing can come between messages that arrive together: they are one event.
        self._push(arrival, peer, seat.name, messages if len(messages) > 1 else messages[0])
