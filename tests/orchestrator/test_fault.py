"""``fault``: parts of devices break, add up, are seen and mended; the ledger balances with them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typed_at import Said

from bus import faults
from bus.faults import KINDS, parse, show
from orchestrator import verbs
from orchestrator.completing import candidates
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError, guard
from orchestrator.machines import running
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.scenarios.scenario import command
from orchestrator.session import Session, drive
from tools import faults as tool
from tools import labs

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000_000


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
