"""The contract a node fulfils: a sans-IO state machine that both runtimes drive.

A node never opens a socket, reads the system's clock, sleeps, draws a random number of its own,
prints or starts a thread. A runtime gives it three things: a ``clock`` to call, a ``Ram`` to look
into, and turns. One turn::

    wake_ns = node.turn(inbox, budget)

``inbox`` holds ``(sender, message)`` pairs in the order of arrival. The node does at most
``budget`` instruction boundaries of work (devices: one message is one piece of work and all of the
inbox is taken), leaves what it wants to say in ``outbox`` and returns when it wants to be woken:

* ``NOW`` (0): there is more to do; call again after the outbox is sent and the inbox drained;
* an absolute time in ns of its clock;
* ``IDLE`` (``None``): only when a message comes.

``steps`` says how many boundaries the turn took; the simulation charges virtual time for them.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bus.ram import Page, Ram

NOW = 0
IDLE = None
BUDGET = 64

#: (sender, message) pairs in order of arrival.
Inbox = Sequence[tuple[str, Any]]


class Surroundings(NamedTuple):
    """What a runtime hands to a node when it builds it."""

    name: str
    incarnation: int
    clock: Callable[[], int]  # ns; monotonic
    ram: Ram
    page: Page
    rng: random.Random
    step_ns: int  # virtual cost of an instruction boundary; 0 where time passes by itself
    timer_slack_ns: int = 0  # how much later a mere batching timer may wake the node


class Node(ABC):
    """Base of all nodes: the outbox and the accounting that every node needs."""

    def __init__(self, around: Surroundings) -> None:
        self.name = around.name
        self.clock = around.clock
        self.ram = around.ram
        self.page = around.page
        self.outbox: dict[str, list[Any]] = {}
        self.steps = 0

    def post(self, peer: str, message: Any) -> None:
        """Queue ``message`` for ``peer``; the runtime sends it when the turn ends."""
        queue = self.outbox.get(peer)
        if queue is None:
            self.outbox[peer] = [message]
        else:
            queue.append(message)

    @abstractmethod
    def turn(self, inbox: Inbox, budget: int) -> int | None:
        """Work off ``inbox``; see the module's text."""

    def undelivered(  # noqa: B027  (most nodes have nothing to add)
        self, peer: str, messages: Sequence[Any], dead: bool
    ) -> None:
        """The runtime could not hand these over: ``dead`` peer, or its queue was full.

        The runtime has counted them in the common part of the page; a node overrides this when
        its own ledger must name what was lost (frames, interrupts)."""
