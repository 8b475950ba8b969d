"""The bundled labs, each found by itself: they pass in every era, and their pages are true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.nic.registers import address_of, name_of
from orchestrator.labs import file, guestlab, output, page, performance, questions
from orchestrator.labs.performance import Performance, perform
from orchestrator.machines.machine import Machine
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.views import accesses
from tests.nodes.nic import registerlog
from tools import labs as tool

ROOT = Path(__file__).parent.parent.parent
LABS = file.bundled()
#: Instruction boundaries of all CPUs in one simulated run: a lab is over in a second or two.
BOUNDARIES_MAX = 60_000


class Runs:
    """Simulated runs of one lab, each made once: with a seed it is the same each time (its page was
    written by another process). ``perform`` stands in for that of a command line."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Machine, Performance, list[str]]] = {}
        self._lines: dict[tuple[str, ...], tuple[int, str]] = {}

    def perform(
        self,
        machine: Machine,
        lab: file.Lab,
        seed: int | None,
        write: Callable[[str], None] | None = None,
        prepare: Callable[[Machine], None] | None = None,
    ) -> Performance:
        if prepare is not None:
            return perform(machine, lab, seed, write, prepare)
        key = repr((lab, seed))
        if key not in self._kept:
            said: list[str] = []
            self._kept[key] = machine, perform(machine, lab, seed, said.append), said
        _, shown, said = self._kept[key]
        for text in said if write is not None else ():
            write(text)
        return shown

    def of(self, name: str, era: str, seed: int) -> tuple[Machine, Performance]:
        lab = file.load(name, era=era, seed=seed)
        self.perform(SimulatedMachine(lab.scenario.machine, seed=seed), lab, seed)
        return self._kept[repr((lab, seed))][:2]

    def line(self, argv: tuple[str, ...]) -> tuple[int, str]:
        """A command line of ours: exit code and output."""
        if argv not in self._lines:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(performance, "perform", self.perform)
                self._lines[argv] = tool.run(argv)
        return self._lines[argv]


@pytest.fixture(scope="module", params=LABS)
def name(request: pytest.FixtureRequest) -> str:
    """Tests of one lab come one after the other, so that they share its runs."""
    return str(request.param)


@pytest.fixture(scope="module")
def runs(name: str) -> Runs:
    return Runs()


def check(machine: Machine, shown: Performance) -> None:
    failed = [verdict.text for verdict in shown.played.verdicts if not verdict.passed]
    assert failed == []
    assert shown.played.cut_short == ""
    assert shown.ledger.faults == []
    assert shown.records_lost == 0
    assert shown.played.verdicts, "it expects nothing"
    assert [answer for _, answer in shown.answers() if "(not measured)" in answer] == []
    pages = [machine.ram.page(cpu, CPU_SCHEMA) for cpu in machine.settings.cpu_names]
    assert sum(page["boundaries"] for page in pages) < BOUNDARIES_MAX


def test_it_passes_its_own_checks_in_every_era(name: str, runs: Runs) -> None:
    lab = file.load(name)
    assert lab.eras
    for era in lab.eras:
        check(*runs.of(name, era, lab.seed))


def test_it_passes_with_another_seed_and_its_sheet_has_that_runs_answers(
    name: str, runs: Runs
) -> None:
    era = file.load(name).scenario.machine.era
    machine, shown = runs.of(name, era, 41)
    check(machine, shown)
    said = questions.sheet(shown.lab, 41) + "\n" + questions.with_answers(shown.answers())
    assert runs.line(("lab", "sheet", name, "--seed", "41", "--answers")) == (0, said)


def test_its_page_has_the_six_parts_and_every_command_does_what_the_page_says(
    name: str, runs: Runs
) -> None:
    lab = file.load(name)
    text = page.read(lab)
    assert page.faults(text, lab) == []
    shown = page.generated(text, lab, lambda argv: runs.line(argv)[1])
    assert shown == text, f"run: python -m tools.labs {name}"
    for command in page.commands(text):
        assert command.argv[:2] in (("bottomhalf", "lab"), ("bottomhalf", "era")), command.text
        code, output = runs.line(command.argv[1:])
        assert code == (1 if command.fails else 0), f"{command.text}\n{output}"


def test_its_questions_are_three_and_its_next_lab_exists(name: str) -> None:
    lab = file.load(name)
    assert len(lab.questions) == 3
    assert lab.next in ("", *LABS)


def test_the_list_is_questions_by_path_with_level_and_minutes() -> None:
    code, text = tool.run(("lab", "list"))
    assert code == 0
    assert text.startswith("learner's path\n")
    for name in LABS:
        lab = file.load(name)
        assert f"  {lab.title}\n      bottomhalf lab run {name} " in text
        assert f"{lab.level}, {lab.minutes} min, era {', '.join(lab.eras)}" in text
    rows = json.loads(tool.run(("lab", "list", "--json"))[1])
    assert sorted(row["name"] for row in rows) == sorted([*LABS, *guestlab.bundled()])


def test_show_renders_the_page() -> None:
    code, text = tool.run(("lab", "show", "irq-flow"))
    assert code == 0
    assert "how does a write to an address become a handler that runs?" in text
    assert "<!--" not in text


def test_a_run_ended_by_ctrl_c_is_not_called_failed() -> None:
    lab = file.load("one-ping", seed=7)
    shown = perform(SimulatedMachine(lab.scenario.machine, seed=7), lab, 7)
    shown.played.cut_short = "interrupted"
    text = "\n".join(output.ending(shown, answers=False))
    assert "\none-ping was interrupted.\n" in text
    assert "FAILED" not in text
    assert "replay:" not in text
    shown.played.cut_short = "cpu1 died"
    text = "\n".join(output.ending(shown, answers=False))
    assert "  FAILED  cut short: cpu1 died" in text
    assert "\none-ping FAILED.\n" in text


def test_a_reader_that_leaves_early_is_no_failed_lab() -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "lab", "run", "one-ping", "--seed", "7"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as lab:
        assert lab.stdout is not None
        assert lab.stderr is not None
        lab.stdout.readline()
        lab.stdout.close()
        assert lab.stderr.read() == ""
        assert lab.wait(timeout=120) == 0


def test_show_leaves_lines_of_output_whole_and_ends_no_line_with_blanks() -> None:
    text = tool.run(("lab", "show", "one-ping"))[1]
    lines = text.splitlines()
    assert any("what happens" in line and line.endswith("(virtual time)") for line in lines)
    assert lines == [line.rstrip() for line in lines]


def test_the_flow_of_2_6_18_is_do_irq_and_its_handlers_run_as_the_record_says() -> None:
    asked = ("lab", "run", "irq-flow", "--seed", "7", "--era")
    old, locked = (
        tool.run((*asked, "2.6.18")),
        tool.run((*asked, "2.6.18", "--set", "prove_locking=on")),
    )
    assert "handle_IRQ_event: IF = 1" in old[1]
    assert "handle_IRQ_event: IF = 0" in locked[1]
    assert "handle_edge_irq" not in old[1]
    assert "__do_IRQ" not in tool.run((*asked, "3.10"))[1]


def real_probe() -> list[tuple[str, bool]]:
    """The accesses of the real driver's log between insmod and `ip link set eth0 up`: register and
    whether it was written. A folded move is one access of each kind that it is made of."""
    steps = registerlog.read()
    notes = [n for n, step in enumerate(steps) if isinstance(step, registerlog.Note)]
    begin, end = (
        next(n for n in notes if f"== {what}" in getattr(steps[n], "text", ""))
        for what in ("insmod ixgbe", "ip link set eth0 up")
    )
    parts = {
        "eeprom": (("EERD", True), ("EERD", False)),
        "take": (("SWSM", False), ("GSSR", False), ("GSSR", True), ("SWSM", True)),
        "mdio": (("MSCA", True), ("MSCA", False)) * 2 + (("MSRWD", False),),
        "bits": (("I2CCTL", True),),
    }
    found: list[tuple[str, bool]] = []
    for step in steps[begin:end]:
        if isinstance(step, registerlog.Access):
            found.append((name_of(step.offset).partition("[")[0], step.write))
        elif isinstance(step, registerlog.Move):
            found += parts.get(step.kind, ())
    return found


def test_a_probe_touches_groups_in_the_order_of_the_real_drivers_log() -> None:
    """And the page's table has the log's counts, which are those of the lab's run."""
    lab = file.load("probe", seed=7)
    shown = perform(SimulatedMachine(lab.scenario.machine, seed=7), lab, 7)
    ours = accesses.table(accesses.of(shown.played.stretches[5].records, nic=1))
    real = [(accesses.group_of(address_of(name)), write) for name, write in real_probe()]
    order = dict.fromkeys(group for group, _ in real if group != "flush")  # of the IPsec tables
    assert [row.group for row in ours if row.group != "flush"] == list(order)
    counts = {row.group: (row.reads, row.writes) for row in ours}
    table = re.findall(r"^\| ([\w-]+) \| (\d+) \| (\d+) \|$", page.read(lab), re.MULTILINE)
    assert len(table) == 7
    for group, reads, writes in table:
        assert (int(reads), int(writes)) == (real.count((group, False)), real.count((group, True)))
        assert counts[group] == (int(reads), int(writes))


def on_processes(name: str, run_dir: Path) -> dict[str, Any]:
    """The run as JSON; it must pass its own checks."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "lab", "run", name, "--json", "--processes"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,  # a guard: where the host is busy its 2 s of CPU time take minutes
        cwd=ROOT,
        env=os.environ | {"BOTTOMHALF_RUN_DIR": str(run_dir)},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    assert value["runtime"] == "processes"
    assert value["seed"] is None
    assert value["passed"]
    return value


@pytest.mark.processes
@pytest.mark.parametrize("name", ["preempt-count", "lock-contexts", "threaded-irq", "delayed-work"])
def test_a_lab_runs_on_processes(name: str, tmp_path: Path) -> None:
    value = on_processes(name, tmp_path / "run")
    assert {span[2] for cpu in value["contexts"].values() for span in cpu} >= {"H", "S", "T"}


@pytest.mark.processes
@pytest.mark.parametrize("name", ["probe", "tx-hang"])
def test_a_lab_of_the_driver_author_runs_on_processes(name: str, tmp_path: Path) -> None:
    """Counts of register accesses are exact there as well; a reset comes in 4 to 7 s."""
    assert on_processes(name, tmp_path / "run")["lab"] == name


@pytest.mark.processes
def test_on_processes_workers_are_drawn_and_the_failover_does_not_wait(tmp_path: Path) -> None:
    value = on_processes("keventd-stall", tmp_path / "run")
    cpu0 = [shown for shown in value["workers"] if shown["cpu"] == "cpu0"]
    assert [shown["steps"] for shown in cpu0] == [[1, 3], [5, 6]]
    for shown in cpu0:
        letters = {span[2] for lane in shown["workers"].values() for span in lane}
        assert "z" in letters  # the sleeper
        assert {"w0", "bond_mii_monitor"} <= shown["works"].keys()


@pytest.mark.processes
def test_under_flood_ping_ksoftirqd_takes_over_and_a_user_task_keeps_its_share(
    tmp_path: Path,
) -> None:
    """On real processes, in era 6.1. Limits are wide: the host's load is in every share."""
    value = on_processes("softirq-storm", tmp_path / "run")
    report = value["reports"]["softirq_storm"]  # the last window: overload and flood ping
    assert report["load"] > 100
    assert report["net_rx"] >= 1
    assert report["ksoftirqd"] > report["irq_exit"]
    assert report["user"] >= 20


def test_a_page_is_not_written_from_a_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(_argv: object) -> int:
        raise KeyError("a defect")

    monkeypatch.setattr(tool.cli, "run", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # for the traceback
    with pytest.raises(RuntimeError, match="a fault of ours: KeyError"):
        tool.rewritten(file.load("lacp"))
