"""The two lines of the ledger on the overview."""

from __future__ import annotations

import re

import pytest
from dashboard_bench import Bench

from nodes.ledger import REPLY, REQUEST
from orchestrator.dashboards import ledgerbox, screens
from orchestrator.dashboards.model import MachineView


def traffic(bench: Bench, sent: int = 100, lost_at_cable: int = 0) -> None:
    """Echo requests over eth0 to the gateway and back, as every node on the way counts them."""
    answered = sent - lost_at_cable
    for node, field, which in (
        ("cpu0", "icmp_sent", REQUEST),
        ("cpu0", "tx_posted", REQUEST),
        ("eth0", "tx_fetched", REQUEST),
        ("eth0", "tx_frames_out", REQUEST),
        ("lan", "frames_in", REQUEST),
    ):
        bench.add(node, field, sent, which)
    bench.add("lan", "in_drop_cable_out", lost_at_cable, REQUEST)
    gateway = 3 * 8
    for node, field, which in (
        ("lan", "frames_out", gateway + REQUEST),
        ("lan", "gw_answered", REQUEST),
        ("lan", "gw_generated", REPLY),
        ("lan", "frames_in", gateway + REPLY),
        ("lan", "frames_out", REPLY),
        ("eth0", "rx_frames_in", REPLY),
        ("eth0", "rx_dma", REPLY),
        ("cpu1", "rx_polled", REPLY),
        ("cpu1", "handover_out", REPLY),
        ("cpu0", "handover_in", REPLY),
        ("cpu0", "delivered", REPLY),
    ):
        bench.add(node, field, answered, which)


def lines(view: MachineView) -> list[str]:
    text = screens.once(view).split("\n")
    at = next(n for n, line in enumerate(text) if line.startswith("+- ledger"))
    return [" ".join(line.strip("|").split()) for line in text[at + 1 : at + 3]]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.network()
    return bench


def test_each_end_has_its_name(bench):
    traffic(bench, 100, lost_at_cable=7)
    bench.add("eth0", "msi_raised", 90)
    bench.add("eth0", "msi_out", 90)
    bench.add("apic", "msi_in", 90)
    bench.add("apic", "msi_routed", 90, 1)
    bench.add("cpu1", "lapic_in", 88)
    bench.add("cpu1", "vectors_taken", 80)
    bench.add("cpu1", "lapic_merged", 8)
    packets, interrupts = lines(bench.look())
    assert packets == "packets 193 = 186 delivered + 7 lan cable_out (eth0) ok"
    assert interrupts == "interrupts 90 = 80 delivered + 8 merged + 2 in flight ok"


def test_a_difference_counts_only_when_it_stays(bench):
    traffic(bench)
    bench.add("lan", "gw_answered", 1, REQUEST)
    assert lines(bench.look())[0].endswith("ok")
    for _ in range(8):
        bench.advance(500)
        said = lines(bench.view)[0]
    assert said.endswith("off by -1")
    bench.add("lan", "gw_answered", -1, REQUEST)
    bench.advance(600)
    assert lines(bench.view)[0].endswith("ok")


def test_the_books_are_read_twice_a_second_at_most(bench):
    first = ledgerbox.read(bench.look())
    bench.advance(100)
    assert ledgerbox.read(bench.view) is first
    bench.advance(500)
    assert ledgerbox.read(bench.view) is not first


def test_former_lives_are_needed(bench):
    bench.state("eth0", incarnation=2)
    assert "ledger" not in screens.once(bench.look())
    asked = []
    bench.view.archived = lambda node, incarnation: asked.append((node, incarnation))
    assert "ledger" in screens.once(bench.look())
    assert asked == [("eth0", 1)]


def test_ends_without_room_are_added_up(bench):
    traffic(bench, 1000)
    for number, name in enumerate(("rx_off", "length", "filter", "vlan", "reset", "missed")):
        bench.add("eth0", f"rx_drop_{name}", 10 + number, REPLY)
    said = lines(bench.look())[0]
    assert "+ 15 eth0 missed" in said
    assert re.search(r"\+ \d+ elsewhere", said)
