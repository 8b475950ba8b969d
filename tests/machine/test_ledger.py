"""Nothing is lost without a name: the books balance whenever a NIC is killed.

In the simulation a second account is kept that knows nothing of counters: it looks at every message
at its hand-over and notes each echo packet's last station. Both accounts must name the same losses.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from bus.messages import EthFrame, MemWrite
from nodes.cpu.page import CPU_SCHEMA
from nodes.ledger import REPLY, REQUEST, classify
from nodes.machine import LAN
from orchestrator import ledger
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.simulated import SimulatedMachine
from tests.machine.settings import bonded_pair

MS = 1_000_000
PING = ("ping", "-q", "-i", "0.002", "192.168.1.1")
GUARD_MS = 60_000


class Follower:
    """Notes for every echo packet (class, sequence) where it was last seen on the bus."""

    def __init__(self) -> None:
        self.last: dict[tuple[int, int], str] = {}
        self.times: Counter[tuple[int, int]] = Counter()

    def __call__(self, _now_ns: int, sender: str, receiver: str, message: Any) -> None:
        if isinstance(message, EthFrame):
            cls = classify(message.frame)
            if cls in (REQUEST, REPLY):
                key = (cls, int.from_bytes(message.frame[40:42], "big"))
                self.last[key] = f"{sender} -> {receiver}"
                self.times[key] += 1


def _machine_under_ping(seed: int) -> tuple[SimulatedMachine, Any, Follower]:
    machine = SimulatedMachine(bonded_pair(), seed=seed)
    follower = Follower()
    machine.simulation.watch = follower
    job = machine.spawn("cpu0", PING)
    machine.pump(machine.now_ns() + 300 * MS)  # it is up after 230
    return machine, job, follower


def _books(machine: Any) -> Any:
    book = ledger.settled(machine)
    assert book.balanced, book.text()
    return book


@pytest.mark.parametrize("instant", range(50))
def test_books_balance_after_a_kill_at_any_simulated_instant(instant: int) -> None:
    machine, job, follower = _machine_under_ping(seed=instant)
    victim = "eth0" if instant % 2 else "eth1"
    # 37 us apart: through the send interval, the flight of a packet and the NIC's timers
    machine.pump(machine.now_ns() + instant * 37_000)
    machine.kill(victim)
    machine.pump(machine.now_ns() + 400 * MS)
    machine.signal(job, 2)
    assert machine.wait(lambda: job.done, GUARD_MS)
    book = _books(machine)
    json = book.as_json()
    sent = json["packets"]["requests"]["sources"]["sent"]
    assert sent == machine.ram.page("cpu0", CPU_SCHEMA)["ping_sent"]
    # what the follower saw: requests that reached the gateway's side, replies that left it
    answered = sum(1 for cls, _ in follower.last if cls == REPLY)
    taken = sum(
        1
        for (cls, _), edge in follower.last.items()
        if cls == REQUEST and edge.endswith(f"> {LAN}")
    )
    assert answered <= taken <= sent
    replies = json["packets"]["replies"]
    assert sum(replies["sources"].values()) == answered + _flooded(replies)


def _flooded(replies: dict[str, Any]) -> int:
    return sum(n for name, n in replies["sources"].items() if "flood" in name)


@pytest.mark.processes
@pytest.mark.parametrize("instant", range(2))  # the active one, the backup; five instants of
# the real clock are tried in tests/orchestrator/test_ledger.py
def test_books_balance_after_a_kill_of_a_real_process(instant: int) -> None:
    machine = ProcessMachine(bonded_pair(name=f"ledger-{os.getpid()}-{instant}"))
    try:
        job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.005", "192.168.1.1"))
        page = machine.ram.page("cpu0", CPU_SCHEMA)
        assert machine.wait(lambda: page["ping_received"] > 20 + instant, GUARD_MS)
        machine.kill("eth0" if instant % 2 == 0 else "eth1")
        # the port of a dead NIC is taken down within 4.1 s; then replies come over the other
        before = page["ping_received"]
        assert machine.wait(lambda: page["ping_received"] > before + 100, GUARD_MS)
        machine.signal(job, 2)
        assert machine.wait(lambda: job.done, GUARD_MS)
        _books(machine)
    finally:
        machine.close()


def test_a_posted_write_to_a_dead_nic_is_counted_and_nothing_waits() -> None:
    machine, job, _ = _machine_under_ping(seed=3)
    seen: list[str] = []
    machine.simulation.watch = lambda now, sender, receiver, message: (
        seen.append(receiver) if isinstance(message, MemWrite) else None
    )
    machine.kill("eth0")
    machine.pump(machine.now_ns() + 200 * MS)
    assert "eth0" not in seen[5:]
    assert machine.ram.page("cpu0", CPU_SCHEMA).run("mmio_lost")[0] > 0
    machine.signal(job, 2)
    assert machine.wait(lambda: job.done, GUARD_MS)
    _books(machine)
