"""Quantities over the phases of a run on a machine that does as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_machine import FakeMachine

from bus.recorder import Record
from nodes.cpu.kernel.cpuhp_states import DOWN
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from orchestrator.machines.machine import Job
from orchestrator.scenarios import facts, scenario
from orchestrator.scenarios.play import Player
from orchestrator.scenarios.played import Played

_NET_RX = CPU_SCHEMA.index("softirqs") + 3
_IRQ_24 = CPU_SCHEMA.index("irqs") + 24


def busy(machine: FakeMachine, job: Job) -> None:
    """A program that takes a while: it moves counters and reports."""

    def work() -> None:
        machine.ram.page("cpu1", CPU_SCHEMA).words[_NET_RX] += 5
        machine.ram.page("cpu0", CPU_SCHEMA).words[_IRQ_24] += 2
        machine.log(f'my_module: first=HI share={len(machine.calls)} note="two words"')
        machine.log("my_module: this is prose, n=3")
        job.exit_code = 4

    machine.later(1_000_000, work)


def play(machine: FakeMachine, tmp_path: Path, steps: str) -> Played:
    machine.programs["pci-rescan"] = busy
    machine.snapshots["cpu0", "kernel"] = {"irqs": [(24, 0, "PCI-MSI", ["eth0-TxRx-0"])]}
    path = tmp_path / "my.toml"
    path.write_text(f'ping = ""\n{steps}')
    return Player(machine, scenario.load(str(path))).play()


STEP = '[[step]]\ndo = "pci-rescan eth0"\n'


def test_a_phase_has_its_own_counters_reports_and_exit_code(
    machine: FakeMachine, tmp_path: Path
) -> None:
    played = play(
        machine,
        tmp_path,
        STEP + STEP + "expect = ['softirqs(NET_RX) == 5', 'softirqs(NET_RX,cpu0) == 0', "
        "'irqs(eth0-TxRx-0) == 2', 'my_module.first == \"HI\"', 'exit == 4', "
        "'my_module.share > my_module.share@1', 'my_module.note == \"two words\"', "
        "'dmesg has \"prose\"', 'dmesg lacks \"my_module: n\"']\n",
    )
    assert [(v.expectation.text, v.value) for v in played.verdicts if not v.passed] == []
    assert played.passed
    assert played.facts is not None
    assert played.facts.value("softirqs(NET_RX)") == 10  # without a step: of the whole run
    assert played.facts.value("softirqs(NET_RX)@0") == 0
    assert played.facts.reports()["my_module"]["first"] == "HI"


def test_what_was_not_measured_fulfils_nothing(machine: FakeMachine, tmp_path: Path) -> None:
    played = play(machine, tmp_path, STEP + "expect = ['other.key == 0', 'irqs(eth7) == 0']\n")
    assert [v.passed for v in played.verdicts] == [False, False]
    assert played.verdicts[0].text == "other.key none, expected == 0"


def test_the_most_of_a_field_over_the_records_of_all_cpus_or_one(
    machine: FakeMachine, tmp_path: Path
) -> None:
    played = play(machine, tmp_path, STEP)
    assert played.facts is not None
    event = TRACEPOINTS["worker_pool_nr_running"].number
    values = [("cpu0", 3), ("cpu1", 1), ("cpu1", 2), ("cpu1", 0)]
    played.stretches[1].records += [(cpu, Record(n, event, 0, 7, n)) for cpu, n in values]
    assert played.facts.value("most(worker_pool_nr_running,b)", 1) == 3
    assert played.facts.value("most(worker_pool_nr_running,b,cpu1)", 1) == 2
    assert played.facts.value("most(worker_pool_nr_running,a,cpu1)", 1) == 7
    assert played.facts.value("most(softirq_entry,a)", 1) is None


def test_when_an_event_or_a_step_of_hotplug_began(machine: FakeMachine, tmp_path: Path) -> None:
    played = play(machine, tmp_path, STEP)
    assert played.facts is not None
    entry, enter = (TRACEPOINTS[name].number for name in ("softirq_entry", "cpuhp_enter"))
    steps = [step.name for step in DOWN["states"]]
    part = played.facts._stretches[1]
    part.begin_ns = 1000
    part.records = [
        ("cpu1", Record(3000, enter, 0, 1 | steps.index("take_cpu_down") << 16, 9)),
        ("cpu0", Record(4500, entry, 0, 0, 0)),
        ("cpu1", Record(5000, enter, 0, 1 | 2 << 8 | steps.index("timers:prepare") << 16, 9)),
    ]
    assert played.facts.value("began(take_cpu_down)", 1) == 2.0
    assert played.facts.value("began(softirq_entry)", 1) == 3.5
    assert played.facts.value("began(softirq_entry,cpu1)", 1) is None
    assert played.facts.value("began(timers:prepare)", 1) is None  # that was its undoing


def test_steps_without_a_time_follow_one_another(machine: FakeMachine, tmp_path: Path) -> None:
    played = play(machine, tmp_path, STEP + STEP)
    first, second = (part.begin_ns for part in played.stretches[1:])
    assert first == played.origin_ns
    assert second - first >= 2_000_000  # it took 1 ms, and things came to rest


def test_taskset_chooses_the_cpu_and_a_background_program_goes_on(
    machine: FakeMachine, tmp_path: Path
) -> None:
    play(machine, tmp_path, '[[step]]\ndo = "taskset -c 1 ping -i 0.1 gateway &"\n' + STEP)
    spawned = [call for call in machine.calls if call[0] in ("spawn", "signal")]
    assert spawned == [
        ("spawn", "cpu1", "ping", "-i", "0.1", "gateway"),
        ("spawn", "cpu0", "pci-rescan", "eth0"),
        ("signal", "ping", 2),
    ]


def test_expectations_of_an_era_come_on_top(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(
        f'ping = ""\n{STEP}expect = "exit == 0"\nby_era."2.6.18".expect = "param.hz == 1000"\n'
    )
    old, new = (scenario.load(str(path), era=era).steps[0].expect for era in ("2.6.18", "6.1"))
    assert [e.text for e in old] == ["exit == 0", "param.hz == 1000"]
    assert [e.text for e in new] == ["exit == 0"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("mod: a=1 b=0x10 c=2.5 d=HI,TIMER", ("mod", {"a": 1, "b": 16, "c": 2.5, "d": "HI,TIMER"})),
        ("mod: a=1 and more", None),
        ("ixgbe 0000:01:00.0: a=1", None),
        ("mod: nothing", None),
    ],
)
def test_a_report_is_a_line_of_nothing_but_figures(line: str, found: object) -> None:
    assert facts.report_in(line) == found
