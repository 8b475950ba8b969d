"""The simulation runtime, through the machine that the orchestrator makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus.messages import MemWrite, PeerBack, PeerLost
from bus.node import IDLE, NOW, Inbox
from bus.simulation import LINK_EVENT_NS, QUEUE_MESSAGES, STEP_NS
from orchestrator.machines.machine import Job, Request
from orchestrator.machines.simulated import LATENCY_NS, SimulatedMachine
from tests.bus.toys import Toy, settings, toys

MS = 1_000_000


def machine(**special: Any) -> SimulatedMachine:
    made = settings()
    return SimulatedMachine(made, toys(made, **special), seed=1)


def ask(simulated: SimulatedMachine, node: str, what: str) -> Any:
    request = simulated.ask(node, what)
    assert simulated.wait(lambda: request.done, 10)
    assert request.ok, request.failed
    return request.value


def command(simulated: SimulatedMachine, node: str, *argv: str) -> Job:
    job = simulated.spawn(node, argv)
    assert simulated.wait(lambda: job.done, 10)
    simulated.pump(simulated.now_ns() + MS // 10)  # what it said arrives
    return job


def chat(seed: int, hash_seed: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bus.simulated_chat", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout


def test_the_same_seed_gives_the_same_bytes_in_another_interpreter() -> None:
    first = chat(7, "1")
    assert first.count(b"\n") > 500
    assert chat(7, "2") == first
    assert chat(8, "1") != first


def test_a_question_is_answered_and_a_job_runs() -> None:
    simulated = machine()
    assert ask(simulated, "eth0", "self")["incarnation"] == 1
    job = command(simulated, "cpu0", "say", "eth0", "7", "2")
    assert (job.take(), job.exit_code, job.take()) == ([(1, "say eth0 7 2")], 0, [])
    heard = [entry for entry in ask(simulated, "eth0", "heard") if entry[1] == "MemWrite"]
    assert heard == [["cpu0", "MemWrite", [0, 0, 7]], ["cpu0", "MemWrite", [0, 1, 7]]]


def test_a_message_takes_its_links_latency_and_a_turn_its_boundaries() -> None:
    simulated = machine()
    simulated.pump(simulated.now_ns() + MS)
    seen: list[tuple[int, str, str]] = []
    simulated.simulation.watch = lambda now, a, b, m: seen.append((now, a, b))
    begin = simulated.now_ns()
    job = simulated.spawn("cpu0", ("ask", "eth0", "5"))
    simulated.wait(lambda: job.done, 10)
    simulated.pump(simulated.now_ns() + MS)
    (request_ns, *_), (answer_ns, *_) = seen
    assert request_ns == begin + STEP_NS  # the turn had one boundary
    low = LATENCY_NS["cpu", "nic"] + STEP_NS
    assert low <= answer_ns - request_ns <= LATENCY_NS["cpu", "nic"] * 1.2 + STEP_NS


def test_a_link_keeps_the_order_of_its_messages() -> None:
    simulated = machine()
    for n in range(50):
        command(simulated, "cpu0", "say", "eth0", str(n), "2")
    values = [e[2][2] for e in ask(simulated, "eth0", "heard") if e[1] == "MemWrite"]
    assert values == [n for n in range(50) for _ in range(2)]


def test_peers_learn_of_death_and_return_after_the_links_delay() -> None:
    simulated = machine()
    simulated.pump(simulated.now_ns() + MS)
    simulated.kill("eth0")
    assert ask(simulated, "lan", "links") == [["eth0", "PeerBack", 1], ["eth1", "PeerBack", 1]]
    simulated.pump(simulated.now_ns() + LINK_EVENT_NS)
    assert ask(simulated, "lan", "links")[-1] == ["eth0", "PeerLost", 1]
    simulated.restart("eth0")
    simulated.pump(simulated.now_ns() + LINK_EVENT_NS)
    assert ask(simulated, "lan", "links")[-1] == ["eth0", "PeerBack", 2]
    assert ["lan", "PeerBack", 1] in ask(simulated, "eth0", "links")


def test_sends_to_the_dead_are_counted_and_told_to_the_node() -> None:
    simulated = machine()
    simulated.kill("eth0")
    command(simulated, "cpu0", "say", "eth0", "1", "5")
    assert ask(simulated, "cpu0", "refused") == {"eth0 dead": 5}
    assert simulated.ram.page("cpu0")["send_dead"] == 5


def test_a_frozen_node_gets_what_waited_up_to_the_limit() -> None:
    simulated = machine()
    simulated.freeze("eth0")
    for _ in range(3):
        command(simulated, "cpu0", "say", "eth0", "1", str(QUEUE_MESSAGES // 2 - 10))
    refused = QUEUE_MESSAGES // 2 - 10
    assert ask(simulated, "cpu0", "refused") == {"eth0 full": refused}
    assert simulated.ram.page("cpu0")["send_full"] == refused
    assert simulated.state("eth0").frozen
    simulated.thaw("eth0")
    assert not simulated.state("eth0").frozen
    heard = [e for e in ask(simulated, "eth0", "heard") if e[1] == "MemWrite"]
    assert len(heard) == 2 * (QUEUE_MESSAGES // 2 - 10)


def test_a_frozen_node_takes_no_turn() -> None:
    simulated = machine()
    command(simulated, "eth0", "timer", "100", "1000")
    simulated.freeze("eth0")
    turns = simulated.ram.page("eth0")["turns"]
    simulated.pump(simulated.now_ns() + 10 * MS)
    assert simulated.ram.page("eth0")["turns"] == turns
    simulated.thaw("eth0")
    simulated.pump(simulated.now_ns() + 10 * MS)
    assert simulated.ram.page("eth0")["turns"] > turns + 50


def test_a_restarted_node_gets_nothing_sent_to_its_predecessor() -> None:
    simulated = machine()
    simulated.pump(simulated.now_ns() + MS)
    job = simulated.spawn("cpu0", ("say", "eth0", "99", "20"))
    simulated.wait(lambda: job.done, 10)  # the writes are on their way now
    simulated.kill("eth0")
    simulated.restart("eth0")
    simulated.pump(simulated.now_ns() + MS)
    command(simulated, "cpu0", "say", "eth0", "7", "1")
    heard = [e for e in ask(simulated, "eth0", "heard") if e[1] == "MemWrite"]
    assert heard == [["cpu0", "MemWrite", [0, 0, 7]]]


def test_a_dead_nodes_page_is_archived_and_the_new_one_starts_at_zero() -> None:
    simulated = machine()
    command(simulated, "cpu0", "say", "eth0", "7", "3")
    simulated.pump(simulated.now_ns() + MS)
    before = simulated.ram.page("eth0").as_dict()
    assert before["msgs_in"] == 3 + 3  # three links, three writes
    simulated.kill("eth0")
    assert simulated.ram.page("eth0").as_dict() == before
    assert simulated.archived_page("eth0", 1) is None
    simulated.restart("eth0")
    assert simulated.archived_page("eth0", 1) == before
    assert simulated.ram.page("eth0")["msgs_in"] == 0
    assert simulated.state("eth0").incarnation == 2


def test_what_is_out_at_a_node_fails_with_it() -> None:
    simulated = machine()
    simulated.freeze("cpu0")
    out: list[Request | Job] = [simulated.ask("cpu0", "self"), simulated.spawn("cpu0", ("x",))]
    simulated.kill("cpu0")
    out += [simulated.ask("cpu0", "self"), simulated.spawn("cpu0", ("x",))]
    assert all(o.done and "cpu0" in o.failed for o in out)
    assert simulated.state("cpu0").signal == 9
    acts: list[Callable[[str], None]] = [simulated.kill, simulated.freeze, simulated.thaw]
    for act in acts:
        with pytest.raises(ProcessLookupError):
            act("cpu0")
    with pytest.raises(ValueError):
        simulated.restart("eth0")


def test_time_goes_on_when_nothing_happens_and_stops_where_it_is_told() -> None:
    simulated = machine()
    simulated.pump(simulated.now_ns() + MS)
    simulated.pump(3_000 * MS)
    assert simulated.now_ns() == 3_000 * MS
    command(simulated, "eth0", "timer", "1000", "10")
    page = simulated.ram.page("eth0")
    turns = page["turns"]
    simulated.pump(simulated.now_ns() + 100 * MS, lambda: page["turns"] == turns + 4)
    assert page["turns"] == turns + 4
    assert simulated.now_ns() < 3_010 * MS


class Busy(Toy):
    """Works for three turns without waiting, then for as long as the clock says."""

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        super().turn(inbox, budget)
        self.steps = budget
        self.timer_left += 1
        self.deadlines.append((0, self.clock()))
        return NOW if self.timer_left < 3 else IDLE


def test_a_node_that_has_more_to_do_is_called_again_after_its_boundaries() -> None:
    simulated = machine(eth0=Busy)
    begin = simulated.now_ns()
    simulated.pump(begin + MS)
    node = simulated.simulation.node("eth0")
    assert isinstance(node, Busy)
    times = [now - begin for _, now in node.deadlines]
    cost = simulated.simulation.budget * STEP_NS
    assert times[:3] == [0, cost, 2 * cost]
    assert len(times) == 3


def test_local_events_carry_incarnations() -> None:
    assert PeerLost(3).incarnation == PeerBack(3).incarnation == 3
    assert MemWrite(0, 1, 2) == (0, 1, 2)
