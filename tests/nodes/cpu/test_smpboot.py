"""Bring-up by INIT and STARTUP: what is sent, who waits for whom, and who is given up."""

from __future__ import annotations

import pytest

from bus.messages import IcrWrite, Interrupt
from nodes.cpu.kernel import smpboot
from nodes.cpu.kernel.smpboot import CPU_CALLIN, CPU_INITIALIZED
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu, Box
from tests.nodes.cpu.several import Several

INIT = Interrupt(0, 5, 0)
STARTUP = Interrupt(0x9A, 6, 0)
UP = {
    "2.6.18": ["Booting processor 1/2 APIC 0x1", "Initializing CPU#1", "Brought up 2 CPUs"],
    "3.10": ["smpboot: Booting Node   0, Processors  #1 OK", "Brought up 2 CPUs"],
    "6.1": [
        "smp: Bringing up secondary CPUs ...",
        "x86: Booting SMP configuration:",
        ".... node  #0, CPUs:      #1",
        "smp: Brought up 1 node, 2 CPUs",
    ],
}
GIVEN_UP = {
    "2.6.18": ["Booting processor 1/2 APIC 0x1", "Not responding.", "Brought up 1 CPUs"],
    "3.10": [
        "smpboot: Booting Node   0, Processors  #1 OK",
        "smpboot: CPU1: Not responding",
        "Brought up 1 CPUs",
    ],
    "6.1": [
        "smp: Bringing up secondary CPUs ...",
        "x86: Booting SMP configuration:",
        ".... node  #0, CPUs:      #1",
        "smpboot: do_boot_cpu failed(-1) to wakeup CPU#1",
        "smp: Brought up 1 node, 1 CPU",
    ],
}


def alone(era: str, number: int = 1) -> BareCpu:
    """A secondary whose boot CPU lets it through at once."""
    bench = BareCpu(era, number=number, cpus=2)
    page = bench.ram.page("cpu0", bench.page.schema)
    page["cpu_callout"] = page["cpu_commenced"] = 1 << number
    return bench


@pytest.mark.conformance("K8.3-1")
@pytest.mark.parametrize(("era", "delay_us"), [("2.6.18", 10_000), ("3.10", 10_000), ("6.1", 0)])
def test_a_secondary_is_started_by_init_and_two_startups(era: str, delay_us: int) -> None:
    machine = Several(era, started=False)
    assert smpboot.START_EIP < 1 << 20
    machine.zero.run_for(delay_us * 1000 + 2 * MS)
    outbox = machine.zero.outbox["apic"]
    written = [message.icr for message in outbox if isinstance(message, IcrWrite)]
    where = 1 << 56
    startup = where | 0x4600 | smpboot.START_EIP >> 12
    assert written == [where | 0xC500, where | 0x8500, startup, startup]


@pytest.mark.parametrize(("era", "until_us"), [("2.6.18", 11_000), ("3.10", 11_000), ("6.1", 40)])
def test_the_sequence_takes_its_delays(era: str, until_us: int) -> None:
    bench = BareCpu(era, cpus=2, boot=False)
    began = bench.ns
    done = smpboot.wakeup_secondary_cpu_via_init(bench.cpu, 1)
    bench.cpu.rq.all.clear()
    bench.cpu.rq.runnable.clear()
    task = bench.task(done)
    bench.run_until(lambda: task.gen is None)
    assert until_us * 1000 <= bench.ns - began < until_us * 1000 + 100_000


@pytest.mark.parametrize("era", ERAS)
def test_both_sides_say_what_the_era_says(era: str) -> None:
    machine = Several(era)
    assert machine.said()[1 : len(UP[era]) + 1] == UP[era]
    assert [bench["online"] for bench in machine.all] == [1, 1]
    assert machine.one["cpu_state"] == CPU_CALLIN


@pytest.mark.parametrize(
    ("era", "line"),
    [
        ("3.10", "smpboot: Booting Node   0, Processors  #1 #2 #3 OK"),
        ("6.1", ".... node  #0, CPUs:      #1 #2 #3"),
    ],
)
def test_all_processors_of_a_node_share_a_line(era: str, line: str) -> None:
    assert line in Several(era, cpus=4).said()


@pytest.mark.parametrize(("era", "limit_s"), [("2.6.18", 5), ("3.10", 5), ("6.1", 10)])
def test_a_cpu_that_does_not_answer_is_given_up(
    era: str, limit_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smpboot, "CALLIN_POLL_NS", 10 * MS)  # look less often: same end, less work
    bench = BareCpu(era, cpus=2, boot=False)
    bench.run_for(limit_s * SECOND - 500 * MS)
    assert GIVEN_UP[era][-2] not in bench.log()
    bench.run_for(SECOND)
    assert bench.log()[1:] == GIVEN_UP[era]
    assert bench.cpu.online_cpus == [0]


def test_a_cpu_that_began_and_did_not_call_in_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smpboot, "CALLIN_POLL_NS", 10 * MS)
    bench = BareCpu("3.10", cpus=2, boot=False)
    bench.ram.page("cpu1", bench.page.schema)["cpu_state"] = CPU_INITIALIZED
    bench.run_for(6 * SECOND)
    assert "smpboot: CPU1: Stuck ??" in bench.log()


def test_the_next_cpu_comes_up_when_one_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smpboot, "CALLIN_POLL_NS", 10 * MS)
    machine = Several("3.10", cpus=3, started=False)
    machine.dead.append(1)
    machine.until(lambda: machine.said("Brought up") != [])
    assert machine.said("Brought up") == ["Brought up 2 CPUs"]
    assert machine.zero.cpu.online_cpus == machine.all[2].cpu.online_cpus == [0, 2]
    assert machine.said("Processors") == ["smpboot: Booting Node   0, Processors  #1"]
    assert machine.said("#2 OK") == [" #2 OK"]


def test_up_to_3_10_a_cpu_nobody_calls_out_gives_up_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smpboot, "CALLIN_POLL_NS", 10 * MS)
    bench = BareCpu("3.10", number=1, cpus=2)
    bench.turn(("apic", INIT), ("apic", STARTUP))
    bench.run_for(3 * SECOND)
    assert bench.log() == [
        "Kernel panic - not syncing: smp_callin: CPU1 started up but did not get a callout!"
    ]
    assert bench["online"] == 0


def test_in_6_1_it_says_that_it_is_there_and_waits() -> None:
    bench = BareCpu("6.1", number=1, cpus=2)
    bench.turn(("apic", INIT), ("apic", STARTUP))
    bench.run_for(10 * MS)
    assert (bench["cpu_state"], bench["online"]) == (CPU_INITIALIZED, 0)
    page = bench.ram.page("cpu0", bench.page.schema)
    page["cpu_callout"] = 0b10
    bench.run_for(MS)
    assert (bench["cpu_state"], bench["online"]) == (CPU_CALLIN, 0)
    page["cpu_commenced"] = 0b10
    bench.run_for(MS)
    assert bench["online"] == 1


@pytest.mark.conformance("A6.11-3")
def test_a_cpu_that_waits_for_startup_takes_no_fixed_interrupt() -> None:
    bench = alone("6.1")
    bench.turn(("apic", INIT), ("apic", Interrupt(0x41, 0, 0)))
    assert bench["lapic_disabled"] == 1
    assert bench["lapic_accepted"] == 0
    assert bench.wake is None
    bench.turn(("apic", STARTUP))
    bench.settle()
    assert bench["online"] == 1
    assert bench.cpu.irqs_on


@pytest.mark.conformance("A6.11-1")
def test_a_startup_message_to_a_running_secondary_does_not_start_it_again() -> None:
    machine = Several()
    machine.one.turn(("apic", STARTUP))
    machine.one.settle()
    assert machine.one.cpu.lapic.enabled
    assert len([t for t in machine.one.cpu.rq.all.values() if t.comm == "ksoftirqd/1"]) == 1


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("cpus", [1, 3, 8])
def test_a_whole_machine_of_cpus_comes_up(era: str, cpus: int) -> None:
    box = Box(era, cpus=cpus, nics=0, bonded=False)
    assert [page["online"] for page in box.pages.values()] == [1] * cpus
    assert box.kernel()["online"] == list(range(cpus))
