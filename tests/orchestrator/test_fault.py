"""``fault``: parts of devices break, add up, are seen and mended; the ledger balances with them."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bus import faults
from bus.faults import KINDS, parse, show
from nodes.apic.page import APIC_SCHEMA
from nodes.lan.page import LAN_SCHEMA
from nodes.ledger import REPLY
from nodes.nic.page import NIC_SCHEMA
from orchestrator import config, running, verbs
from orchestrator.completing import candidates
from orchestrator.counts import Counts
from orchestrator.errors import BottomhalfError, guard
from orchestrator.ledger import UNTOLD, account, read, settled
from orchestrator.ready import wait_until_ready
from orchestrator.scenario import command
from orchestrator.session import Session, drive
from orchestrator.simulated import SimulatedMachine
from tools import faults as tool
from tools import labs

ROOT = Path(__file__).parents[2]
MS = 1_000_000
SECOND = 1000 * MS


@pytest.fixture
def simulated() -> SimulatedMachine:
    machine = SimulatedMachine(config.load()._replace(name="m1"), seed=7)
    assert wait_until_ready(machine)
    return machine


class Said:
    def __init__(self, machine: SimulatedMachine, line: str) -> None:
        out: list[str] = []
        session = Session(machine, out=out.append, err=out.append)
        self.code = drive(session, verbs.start(session, line.split()))
        self.text = "".join(out)


def ping(machine: SimulatedMachine, options: str = "-c 10 -i 0.01") -> str:
    job = machine.spawn("cpu0", ("ping", "-q", *options.split(), "192.168.1.1"))
    assert machine.wait(lambda: job.done, 60_000)
    return "".join(text for _, text in job.take())


def interrupts(machine: SimulatedMachine) -> dict[str, dict[str, int]]:
    ledger = settled(machine)
    assert ledger.balanced, ledger.text()
    return ledger.as_json()["interrupts"]


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lose-msi", "lose-msi"),
        ("lose-msi=all", "lose-msi"),
        ("lose-msi=next", "lose-msi=1"),
        ("lose-msi=12", "lose-msi=12"),
        ("lose-msi=2/200", "lose-msi=1/100"),
        ("dup-msi=2.5%", "dup-msi=1/40"),
        ("no-dma", "no-dma"),
        ("hang", "hang"),
        ("hang=hard", "hang=hard"),
        ("loss=2%", "loss=1/50"),
        ("loss=2%,rx", "loss=1/50,rx"),
        ("loss=tx", "loss=tx"),
        ("dup=3,tx", "dup=3,tx"),
        ("delay=5ms", "delay=5ms"),
        ("delay=1500us,rx", "delay=1500us,rx"),
        ("jitter=0.5ms", "jitter=500us"),
        ("rate=100Mbit", "rate=100Mbit"),
        ("rate=2.5Gbit,tx", "rate=2500Mbit,tx"),
        ("silent", "silent"),
        ("silent=rx", "silent=rx"),
        ("one-way=rx", "one-way=rx"),
        ("down", "down"),
    ],
)
def test_a_value_is_one_number_and_prints_as_it_was_typed(text: str, shown: str) -> None:
    name, equals, value = text.partition("=")
    kind = KINDS[name]
    assert show(kind, parse(kind, value if equals else None)) == shown


@pytest.mark.parametrize(
    "text", ["lose-msi=0", "lose-msi=", "lose-msi=3/2", "lose-msi=0%", "lose-msi=-1",
             "lose-msi=101%", "no-dma=1", "hang=soft", "loss=2%,up", "delay=5", "delay=5,rx",
             "delay=0ms", "rate=fast", "rate=10MB", "one-way=both", "silent=yes", "down=1"],
)  # fmt: skip
def test_other_values_are_refused(text: str) -> None:
    name, _, value = text.partition("=")
    with pytest.raises(ValueError, match=r"\w"):
        parse(KINDS[name], value)


def test_help_and_completion_come_from_the_table() -> None:
    page = verbs.TABLE["fault"].help
    for kind in KINDS.values():
        assert kind.doc in page
        assert kind.name in candidates("fault")


def test_the_page_of_the_docs_has_the_table() -> None:
    text = tool.PAGE.read_text()
    assert tool.rewritten(text) == text, "run: python -m tools.faults"


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


# ---------------------------------------------------------------- what is said


def test_the_list_shows_what_other_verbs_broke(say, machine) -> None:
    say("freeze eth1")
    assert "frozen (SIGSTOP)" in say("fault list").out
    assert "mend: bottomhalf thaw eth1" in say("fault list").out


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("fault", "fault in what?"),
        ("fault eth0", "fault eth0: which one?"),
        ("fault eth0 lose-msy", "no fault `lose-msy`; did you mean `lose-msi`?"),
        ("fault eth0 lose-msi=0", "allowed behind `lose-msi=` is next, N"),
        ("fault apic hang", "apic cannot suffer `hang`"),
        ("fault cpu0 hang", "there is no fault for cpu0 yet"),
        ("fault eth0 hang --for soon", "`soon` is not a length of time"),
        ("fault list --for 2s", "fault list takes no --for"),
        ("fault clear eth0 hung", "no fault `hung`; did you mean `hang`?"),
        ("fault eht0 hang", "no node `eht0`"),
        ("fault gateway hang", "gateway cannot suffer `hang`"),
        ("fault lan:gateway hang", "gateway cannot suffer `hang`"),
        ("fault lan:3 silent", "the switch has no port `lan:3`"),
        ("kill lan:gateway", "the gateway is a host behind the switch, not a process"),
        ("fault lan silent", "the switch breaks a port at a time"),
        ("fault eth0 lacp=silent", "the port of eth0 is in no port-channel that speaks LACP"),
        ("fault eth0 delay=soon", "allowed behind `delay=` is a time"),
        ("fault eth0 los=1", "no fault `los`; did you mean `loss`?"),
    ],
)
def test_slips_get_their_message(say, machine, line: str, what: str) -> None:
    said = say(line)
    assert said.code == 2
    assert what in said.err
    assert not [call for call in machine.calls if call[0] == "fault"]


def test_dead_and_frozen_devices_take_no_fault(say, machine) -> None:
    say("kill eth0")
    assert "eth0 is dead" in say("fault eth0 hang").err
    say("freeze eth1")
    assert "eth1 is frozen" in say("fault eth1 hang").err


def test_active_is_what_the_bond_says(say, machine) -> None:
    machine.set_active("eth1")
    assert say("fault active hang --for 2s").code == 0
    assert ("fault", "eth1", "hang", faults.UNTIL_RESET, 2 * SECOND, True) in machine.calls


def test_steps_of_scenarios_are_checked_before_anything_runs() -> None:
    settings = config.load()
    good = ["fault", "active", "lose-msi=1/100", "--for", "2s"]
    assert command(good, settings) == (good, "", False)
    listing = ["fault", "list", "--json"]
    assert command(listing, settings) == (listing, "", False)
    for bad in (["fault", "active", "lose"], ["fault", "eth7", "hang"], ["fault", "eth0"]):
        with pytest.raises(BottomhalfError):
            command(bad, settings)
    for line, what in (
        ("fault", "fault in what?"),
        ("fault cpu0 hang", "there is no fault for cpu0 yet"),
        ("fault clear eth0 hung", "did you mean `hang`?"),
        ("fault clear eth0 hang eth1", "a target and a kind"),
        ("fault list eth0", "takes no target"),
        ("fault list --for 2s", "fault list takes no --for"),
    ):
        with pytest.raises(BottomhalfError, match=re.escape(what)):
            command(line.split(), settings)


def test_the_box_on_top_names_the_fault_and_its_mend(simulated: SimulatedMachine) -> None:
    Said(simulated, "fault eth0 hang=hard")
    text = Said(simulated, "top --once").text
    assert re.search(r"\| eth0  fault hang=hard, .* ago +mend: fault clear eth0 hang *\|", text)
    world = json.loads(Said(simulated, "top --json").text)
    assert [row["fault"] for row in world["broken"]] == ["hang=hard"]
    screen = Said(simulated, "top eth0 --once").text
    assert "eth0 hangs (fault hang): descriptors stay where they are." in screen


def test_a_scenario_breaks_and_its_result_says_what_stayed_broken(tmp_path) -> None:
    """The device ends the fault with a time by itself; the others stay in the result."""
    path = tmp_path / "hang.toml"
    path.write_text(
        """ping = "-i 0.01 gateway"
until = "1s"
[[step]]
at = "200ms"
do = "fault active hang --for 100ms"
expect = ["gap <= 150ms", "active == eth0"]
[[step]]
at = "600ms"
do = "fault backup lose-msi=1/2 no-dma"
expect = "lost == 0"
"""
    )
    code, text = labs.run(("run", str(path), "--seed", "7", "--json"))
    result = json.loads(text)
    assert code == 0, text
    assert result["phases"][1]["rtt_max_ms"] >= 90
    assert [(row["node"], row["fault"]) for row in result["broken"]] == [
        ("eth1", "lose-msi=1/2"), ("eth1", "no-dma"),
    ]  # fmt: skip


def test_tcpdump_names_the_faults_at_its_end(simulated: SimulatedMachine) -> None:
    Said(simulated, "fault eth1 no-dma")
    err: list[str] = []
    session = Session(simulated, out=lambda text: None, err=err.append, terminal=True)
    simulated.spawn("cpu0", ("ping", "-c", "1", "192.168.1.1"))
    assert drive(session, verbs.start(session, ["tcpdump", "-i", "bond0", "-c", "1"])) == 0
    assert "hint: faults at the end: eth1 no-dma (bottomhalf fault list)" in "".join(err)


# ---------------------------------------------------------------- processes


@pytest.mark.processes
def test_a_running_machine_is_broken_seen_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Command lines without an interpreter for each: the driver, too, mends a NIC that hangs, and
    that is five seconds away."""
    monkeypatch.setenv("BOTTOMHALF_RUN_DIR", str(tmp_path / "r"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        with running.connect(None) as machine:
            session = Session(machine, cpu="cpu0")
            code = guard(lambda: drive(session, verbs.start(session, words)))
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        command_line = [sys.executable, "-m", "orchestrator.cli", *words]
        return subprocess.run(
            command_line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    assert typed("up", "-d").returncode == 0
    try:
        assert "2 received" in run("ping", "-c", "2", "-i", "0.1", "gateway").stdout
        hung = run("fault", "eth0", "hang")
        assert hung.stdout.startswith("eth0 has fault hang\n  mend: bottomhalf fault clear eth0")
        assert run("ping", "-c", "2", "-i", "0.1", "-W", "0.3", "gateway").returncode == 1
        ring = json.loads(run("ring", "eth0", "tx", "0", "--json").stdout)
        assert ring["nic"] >= 2
        shown = run("regs", "eth0", "tdh[0]", "tdt[0]", "--json")
        heads = {row["name"]: row["value"] for row in json.loads(shown.stdout)}
        assert (heads["TDH[0]"], heads["TDT[0]"]) == (ring["head"], ring["tail"])
        assert "fault hang" in run("fault", "list").stdout
        assert run("fault", "clear").stdout == "eth0: mended hang\n"
        assert "2 received" in run("ping", "-c", "2", "-i", "0.1", "gateway").stdout
        assert run("fault", "lan:1", "silent").returncode == 0
        assert run("ping", "-c", "2", "-i", "0.1", "-W", "0.3", "gateway").returncode == 1
        assert "eth0   fault silent hit 2, " in run("fault", "list").stdout
        assert run("fault", "clear").stdout == "eth0: mended silent\n"
        assert run("fault", "eth0", "delay=50ms,rx").returncode == 0
        slow = run("ping", "-c", "3", "-i", "0.1", "gateway").stdout
        assert float(slow.rsplit("= ", 1)[1].split("/")[0]) >= 50
        assert run("fault", "clear", "eth0").returncode == 0
        back = typed("--on", "gateway", "ping", "-c", "2", "-i", "0.1", "m1")
        assert (back.returncode, back.stderr) == (0, "")
        assert "2 packets transmitted, 2 received, 0% packet loss" in back.stdout
        run("fault", "eth0", "no-dma", "--for", "300ms")
        while "no-dma" in (said := run("fault", "list").stdout):
            pass
        assert said == "nothing is broken\n"
        run("kill", "eth0")
        last = run("regs", "eth0", "TDT")
        assert "is dead" in last.stderr
        assert "TDT[0]" in last.stdout
    finally:
        typed("down")


def test_a_step_cannot_make_a_port_speak_wrongly_that_speaks_nothing() -> None:
    for where in ("eth1", "lan:2", "lan:gateway"):
        with pytest.raises(BottomhalfError, match="in no port-channel that speaks LACP"):
            command(["fault", where, "lacp=silent"], config.load())
    assert command(["fault", "lan:2", "lacp=silent"], config.load("bond-lacp"))
