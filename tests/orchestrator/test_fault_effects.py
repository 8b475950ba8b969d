"""What breaks when a part does: interrupts, memory, the datapath, cables; the ledger balances."""

from __future__ import annotations

import json
import random
import re

import pytest
from typed_at import Said

from bus import faults
from nodes.apic.page import APIC_SCHEMA
from nodes.lan.page import LAN_SCHEMA
from nodes.ledger import REPLY
from nodes.nic.page import NIC_SCHEMA
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.ledger import UNTOLD, account, read, settled
from orchestrator.machines.counts import Counts
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine

MS = 1_000_000
SECOND = 1000 * MS


def ping(machine: SimulatedMachine, options: str = "-c 10 -i 0.01") -> str:
    job = machine.spawn("cpu0", ("ping", "-q", *options.split(), "192.168.1.1"))
    assert machine.wait(lambda: job.done, 60_000)
    return "".join(text for _, text in job.take())


def interrupts(machine: SimulatedMachine) -> dict[str, dict[str, int]]:
    ledger = settled(machine)
    assert ledger.balanced, ledger.text()
    return ledger.as_json()["interrupts"]


# ---------------------------------------------------------------- interrupts


def test_lost_msis_are_lost_once_and_named(simulated: SimulatedMachine) -> None:
    """One of the queue that sent, one of the queue that received."""
    ping(simulated)
    said = Said(simulated, "fault eth0 lose-msi=2")
    assert said.text == "eth0 has fault lose-msi=2\n  mend: bottomhalf fault clear eth0 lose-msi\n"
    assert "0 received" in ping(simulated, "-c 1 -W 1")
    assert interrupts(simulated)["ends"]["lost: fault lose-msi"] == 2
    assert Said(simulated, "fault list").text == "nothing is broken\n"  # the one is used up


def test_what_a_lost_msi_leaves_in_the_ring_is_counted_and_excuses_nothing_else(
    simulated: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge from the NIC to the driver may lack what lies in its rings, to the frame: before the
    driver looks it is named, afterwards it is nothing, and another frame that is missing is not
    excused by a message that was lost once."""
    ping(simulated)
    Said(simulated, "fault eth0 lose-msi=2")
    ping(simulated, "-c 1 -W 0.05")
    book = settled(simulated)
    waiting = Counts.of(simulated).in_rings("eth0")
    ends = sum(packets.ends.get(UNTOLD, 0) for packets in book.packets.values())
    assert (waiting, ends, book.balanced) == (1, 1, True), book.text()
    simulated.pump(simulated.now_ns() + 3_000_000_000)  # the service task's kick
    assert settled(simulated).balanced
    assert Counts.of(simulated).in_rings("eth0") == 0
    counts = Counts.of(simulated)
    true = counts.get

    def one_reply_less(node: str, field: str, index: int = 0) -> int:
        return true(node, field, index) - ((node, field, index) == ("cpu0", "rx_polled", REPLY))

    monkeypatch.setattr(counts, "get", one_reply_less)
    assert any("eth0 -> cpus (descriptors)" in fault for fault in account(counts).faults)


def test_the_driver_survives_a_lost_msi_by_the_kick_of_its_service_task(
    simulated: SimulatedMachine,
) -> None:
    ping(simulated)
    Said(simulated, "fault eth0 lose-msi=2")
    text = ping(simulated, "-c 40 -i 0.1")
    received = int(text.split(" received")[0].rsplit(" ", 1)[-1])
    assert received == 40  # late, but the ring kept them
    slowest_ms = float(text.rsplit("= ", 1)[-1].split("/")[2])
    assert 50 < slowest_ms <= 2100  # the service task comes every 2 s
    assert interrupts(simulated)["ends"]["lost: fault lose-msi"] == 2


def test_a_share_of_msis_lost_in_the_interrupt_controller(simulated: SimulatedMachine) -> None:
    Said(simulated, "fault apic lose-msi=1/4")
    ping(simulated, "-c 50 -i 0.1")
    lost = interrupts(simulated)["ends"]["lost: fault lose-msi"]
    assert lost == simulated.ram.page("apic", APIC_SCHEMA).as_dict()["msi_lost_fault"]
    assert lost > 3
    listed = Said(simulated, "fault list").text
    assert listed.startswith(f"apic   fault lose-msi=1/4 hit {lost}, ")
    assert listed.endswith(" ago  mend: bottomhalf fault clear apic lose-msi\n")


@pytest.mark.parametrize("where", ["eth0", "apic"])
def test_a_doubled_msi_harms_nobody(simulated: SimulatedMachine, where: str) -> None:
    Said(simulated, f"fault {where} dup-msi")
    text = ping(simulated, "-c 20 -i 0.01")
    assert "20 received" in text
    assert "duplicates" not in text
    book = interrupts(simulated)
    assert book["sources"]["doubled: fault dup-msi"] > 10
    assert book["ends"].get("copies", 0) == 0


def test_faults_of_one_kind_add_up(simulated: SimulatedMachine) -> None:
    Said(simulated, "fault eth0 lose-msi=1/100")
    Said(simulated, "fault eth0 lose-msi=2 dup-msi=1")
    Said(simulated, "fault eth0 lose-msi=1")
    rows = json.loads(Said(simulated, "fault list --json").text)
    assert sorted(row["fault"] for row in rows) == ["dup-msi=1", "lose-msi=1/100", "lose-msi=3"]
    Said(simulated, "fault eth0 lose-msi=1/100")  # it is so already
    assert len(json.loads(Said(simulated, "fault list --json").text)) == 3
    assert Said(simulated, "fault clear eth0 lose-msi").text == (
        "eth0: mended lose-msi=1/100 lose-msi=3\n"
    )
    rows = json.loads(Said(simulated, "fault list --json").text)
    assert [row["fault"] for row in rows] == ["dup-msi=1"]


def test_the_row_above_the_last_is_refused(simulated: SimulatedMachine) -> None:
    for n in range(faults.ROWS):
        Said(simulated, f"fault eth0 lose-msi=1/{1000 + n}")
    with pytest.raises(BottomhalfError, match="8 faults"):
        Said(simulated, "fault eth0 hang")


# ---------------------------------------------------------------- memory and the datapath


@pytest.mark.parametrize("kind", ["hang", "no-dma"])
def test_descriptors_stay_and_go_on_when_it_is_mended(
    simulated: SimulatedMachine, kind: str
) -> None:
    ping(simulated)
    page = simulated.ram.page("eth0", NIC_SCHEMA)
    Said(simulated, f"fault eth0 {kind}")
    before = page.run("tx_head"), page["dma_reads"], page["dma_writes"]
    assert "0 received" in ping(simulated, "-c 2 -i 0.1 -W 0.2")
    assert (page.run("tx_head"), page["dma_reads"], page["dma_writes"]) == before
    assert sum(page.run("tx_tail")) > sum(page.run("tx_head"))
    simulated.pump(simulated.now_ns() + 50 * MS)
    ledger = read(simulated)
    assert not ledger.faults, ledger.text()
    assert f"waiting: fault {kind} of eth0" in ledger.text()
    assert Said(simulated, f"fault clear eth0 {kind}").text == f"eth0: mended {kind}\n"
    assert "5 received" in ping(simulated, "-c 5 -i 0.01")
    assert page.run("tx_tail") == page.run("tx_head")
    interrupts(simulated)


def test_registers_of_a_hung_nic_answer_and_a_reset_mends_it(simulated: SimulatedMachine) -> None:
    device = simulated.simulation.node("eth0").device
    Said(simulated, "fault eth0 hang")
    assert not device.transmit.allowed
    assert device.interrupts.allowed
    assert device.read32(0x8) == 0x80000
    device.write32(0x0, 1 << 26)  # CTRL.RST
    assert device.transmit.allowed
    assert Said(simulated, "fault list").text == "nothing is broken\n"


def test_a_hard_hang_outlives_a_reset(simulated: SimulatedMachine) -> None:
    device = simulated.simulation.node("eth0").device
    Said(simulated, "fault eth0 hang=hard")
    device.write32(0x0, 1 << 26)
    assert not device.transmit.allowed
    Said(simulated, "fault clear")
    assert device.transmit.allowed


def test_the_device_ends_a_fault_with_a_time_by_itself(simulated: SimulatedMachine) -> None:
    said = Said(simulated, "fault eth0 hang --for 200ms")
    assert said.text.startswith("eth0 has fault hang for 0.2 s\n")
    assert "ms left" in Said(simulated, "fault list").text
    simulated.pump(simulated.now_ns() + 150 * MS)
    assert "hang" in Said(simulated, "fault list").text
    simulated.pump(simulated.now_ns() + 60 * MS)
    assert Said(simulated, "fault list").text == "nothing is broken\n"
    assert "3 received" in ping(simulated, "-c 3 -i 0.01")


def test_a_new_process_is_a_new_part(simulated: SimulatedMachine) -> None:
    Said(simulated, "fault eth0 hang=hard lose-msi")
    Said(simulated, "kill eth0")
    assert "hang" not in Said(simulated, "fault list").text
    Said(simulated, "restart eth0")
    assert Said(simulated, "fault list").text == "nothing is broken\n"


# ---------------------------------------------------------------- cables


def test_a_cable_is_called_by_its_nic_or_its_port(simulated: SimulatedMachine) -> None:
    assert Said(simulated, "fault lan:1 silent").text == (
        "eth0 has fault silent\n  mend: bottomhalf fault clear eth0 silent\n"
    )
    Said(simulated, "fault lan:gateway delay=1ms,rx")  # or gateway
    listed = Said(simulated, "fault list").text
    assert re.search(r"^eth0 +fault silent, .*clear eth0 silent$", listed, re.M)
    assert re.search(r"^gateway fault delay=1ms,rx, .*clear gateway delay$", listed, re.M)
    assert Said(simulated, "fault clear gateway").text == "gateway: mended delay=1ms,rx\n"
    assert Said(simulated, "fault clear").text == "eth0: mended silent\n"
    assert Said(simulated, "fault list").text == "nothing is broken\n"


def test_miimon_never_notices_a_silent_cable(simulated: SimulatedMachine) -> None:
    ping(simulated)
    Said(simulated, "fault active silent")
    assert "0 received" in ping(simulated, "-c 20 -i 0.1 -W 0.1")
    world = json.loads(Said(simulated, "top --json").text)
    assert world["bond"]["active"] == "eth0"
    Said(simulated, "fault clear")
    assert "3 received" in ping(simulated, "-c 3 -i 0.1")
    books = packets(simulated)
    assert books["requests"]["ends"]["lan fault_silent (eth0)"] == 20


def test_a_port_that_is_shut_makes_the_bond_fail_over(simulated: SimulatedMachine) -> None:
    ping(simulated)
    Said(simulated, "fault active down")
    simulated.pump(simulated.now_ns() + SECOND // 2)
    assert json.loads(Said(simulated, "top --json").text)["bond"]["active"] == "eth1"
    assert "3 received" in ping(simulated, "-c 3 -i 0.1")


def packets(machine: SimulatedMachine) -> dict[str, dict[str, dict[str, int]]]:
    ledger = settled(machine)
    assert ledger.balanced, ledger.text()
    return ledger.as_json()["packets"]


def test_a_wrong_fcs_ends_where_it_arrives_and_ethtool_counts_it(
    simulated: SimulatedMachine,
) -> None:
    ping(simulated)
    Said(simulated, "fault eth0 corrupt=2,rx corrupt=3,tx")
    ping(simulated, "-c 10 -i 0.1 -W 0.1")  # ARP's frames count, too
    books = packets(simulated)
    assert 0 < books["requests"]["ends"]["lan fault_fcs (eth0)"] <= 3
    assert sum(simulated.ram.page("lan", LAN_SCHEMA).run("fault_fcs")) == 3
    assert sum(simulated.ram.page("eth0", NIC_SCHEMA).run("rx_drop_crc")) == 2
    simulated.pump(simulated.now_ns() + 3 * SECOND)  # the service task reads the registers
    job = simulated.spawn("cpu0", ("ethtool", "-S", "eth0"))
    assert simulated.wait(lambda: job.done, 1000)
    text = "".join(part for _, part in job.take())
    assert re.search(r"rx_crc_errors: 2$", text, re.M), text


def test_ping_prints_duplicates_and_the_ledger_has_their_source(
    simulated: SimulatedMachine,
) -> None:
    ping(simulated)
    Said(simulated, "fault eth0 dup=2,rx")
    job = simulated.spawn("cpu0", ("ping", "-c", "3", "-i", "0.1", "192.168.1.1"))
    assert simulated.wait(lambda: job.done, 5000)
    text = "".join(part for _, part in job.take())
    assert text.count("(DUP!)") == 2
    assert packets(simulated)["replies"]["sources"]["doubled: fault dup"] == 2


CABLE_FAULTS = (
    "loss=20%", "loss=3,rx", "dup=30%", "dup=5,tx", "reorder=25%", "corrupt=10%", "delay=3ms",
    "delay=20ms,rx", "jitter=4ms", "rate=2Mbit", "rate=64kbit,tx", "silent=rx", "one-way=tx",
    "down",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_the_ledger_balances_under_any_mix_of_cable_faults(seed: int) -> None:
    """Also when the switch dies with frames in its cables."""
    rng = random.Random(seed)
    machine = SimulatedMachine(config.load()._replace(name="m1"), seed=seed)
    assert wait_until_ready(machine)
    jobs = [
        machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", "-c", "150", "192.168.1.1")),
        machine.spawn("lan", ("ping", "-q", "-i", "0.02", "-w", "3", "m1")),
    ]
    for _ in range(8):
        where = rng.choice(["eth0", "eth1", "active", "gateway"])
        Said(machine, f"fault {where} {rng.choice(CABLE_FAULTS)}")
        machine.pump(machine.now_ns() + rng.randrange(1, 300) * MS)
        if not rng.randrange(4):
            Said(machine, f"fault clear {rng.choice(['eth0', 'eth1', 'gateway'])}")
    if seed % 2:
        Said(machine, "kill lan")
        machine.pump(machine.now_ns() + 20 * MS)
        Said(machine, "restart lan")
    Said(machine, "fault clear")
    assert machine.wait(lambda: all(job.done for job in jobs), 60_000)
    machine.pump(machine.now_ns() + 2 * SECOND)
    packets(machine)
