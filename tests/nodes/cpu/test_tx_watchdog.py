"""dev_watchdog on a whole machine: it speaks of queues that are full, and of no others."""

from __future__ import annotations

import pytest

from bus.faults import KINDS, parse
from tests.nodes.cpu.harness import ERAS, Box

FLOOD = ("ping", "-q", "-i", "0.002", "192.168.1.1")


def fault(box: Box, node: str, kind: str) -> None:
    """Until it is mended."""
    box.machine.fault(node, kind, parse(KINDS[kind], None), 0, True)


@pytest.fixture(params=ERAS)
def box(request: pytest.FixtureRequest) -> Box:
    """One port, whose engine hangs when the gateway's address is known."""
    # without byte limits: with them a queue stops long before its ring is full
    box = Box(request.param, nics=1, overrides=(("bql", "none"),))
    box.live(1000)
    assert box.ping("-c", "1").code == 0
    fault(box, "eth0", "hang")
    return box


def test_a_full_ring_that_nobody_cleans_times_out_and_the_adapter_is_reset(box: Box) -> None:
    """No interrupt arrives, so the driver's own check for hangs never runs."""
    fault(box, "apic", "lose-msi")
    hung = box.now_s
    job = box.start(*FLOOD)
    box.live(12_000)
    era = box.settings.era
    text = {
        "2.6.18": "NETDEV WATCHDOG: eth0: transmit timed out",
    }.get(era, "NETDEV WATCHDOG: eth0 (ixgbe): transmit queue 0 timed out")
    said = box.said(hung)
    assert said.count(text) == 1
    assert not any("Tx Unit Hang" in line for line in said)
    full = hung + 512 * 0.002
    assert full + 5 <= box.when(text, hung) <= full + 10.1
    assert any("WARNING" in line and "sch_generic" in line for line in said) == (era != "2.6.18")
    reset = "initiating reset due to tx timeout"
    assert any(reset in line for line in said) == (era != "2.6.18")
    assert any(line.endswith("eth0: Reset adapter") for line in said)
    box.interrupt(job)
    assert sum(box.drops()[("eth0", "TX_RING_RESET")]) >= 500


def test_a_queue_that_is_not_full_is_left_to_the_driver(box: Box) -> None:
    hung = box.now_s
    job = box.start("ping", "-q", "-i", "0.1", "192.168.1.1")
    box.live(12_000)
    said = box.said(hung)
    assert not any("NETDEV WATCHDOG" in line for line in said)
    assert sum("Detected Tx Unit Hang" in line for line in said) == 1
    logged = any("initiating reset due to tx timeout" in line for line in said)
    assert logged == (box.settings.era != "2.6.18")
    box.interrupt(job)


@pytest.mark.conformance("N1.13")
def test_without_a_carrier_the_watchdog_is_silent_and_link_loss_resets(box: Box) -> None:
    hung = box.now_s
    job = box.start(*FLOOD)
    box.live(1500)  # the ring is full
    adapter = box.machine.simulation.node("cpu0").cpu.net.adapters["eth0"]
    assert [queue for queue, _ in adapter.stopped_queues()] == [0]
    box.cable("eth0", inserted=False)
    box.live(12_000)
    said = box.said(hung)
    assert not any("NETDEV WATCHDOG" in line for line in said)
    asked = box.when("initiating reset to clear Tx work after link loss", hung)
    waited = box.when("eth0: Reset adapter", hung) - asked
    # the service task asks itself: an event that comes while it runs waits for its timer
    assert waited < 0.001 if box.settings.era == "2.6.18" else 0.005 < waited < 2.1
    box.interrupt(job)


def test_a_ring_that_was_full_when_it_was_reset_is_used_again(box: Box) -> None:
    """netif_tx_wake_all_queues: what waited in the queueing discipline goes out, on every CPU."""
    flood = ("ping", "-q", "-i", "0.004", "192.168.1.1")
    jobs = [box.start(*flood, cpu=cpu) for cpu in ("cpu0", "cpu1")]
    box.live(2500)
    adapter = box.machine.simulation.node("cpu0").cpu.net.adapters["eth0"]
    assert adapter.stopped_queues()
    box.live(3500)
    assert any("Detected Tx Unit Hang" in line for line in box.said())
    for job in jobs:
        box.interrupt(job)
    box.live(500)
    for cpu in ("cpu0", "cpu1"):
        assert box.ping("-c", "3", "-i", "0.01", cpu=cpu).code == 0
        assert not box.machine.simulation.node(cpu).cpu.net.by_name["eth0"].qdisc
