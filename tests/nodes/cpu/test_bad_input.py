"""What a person types, however wrong, ends with an error: it never ends the node."""

from __future__ import annotations

import pytest

from bus.messages import Snapshot
from nodes.cpu.kernel.hrtimer import KTIME_MAX, HrTimer
from nodes.cpu.kernel.irq.sim import irq_sim_create, irq_sim_remove
from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.cpu.kernel.percpu import Context, Cpu, SoftwareInterrupt
from nodes.cpu.modules import MODULES, Values, module
from nodes.cpu.programs.run import PROGRAMS, Process, program
from tests.nodes.cpu.harness import BareCpu, Box

DIGITS = ("9" * 250,) * 20  # one text of 5000 digits: more than Python turns into a number


@pytest.fixture(scope="module")
def box() -> Box:
    return Box("6.1", miimon=100)


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/net/core/netdev_budget",
        "/proc/irq/default_smp_affinity",
        "/sys/class/net/bond0/bonding/miimon",
    ],
)
def test_a_number_of_thousands_of_digits_is_refused(box: Box, path: str) -> None:
    assert box.run("write", path, *DIGITS).code == 1


def test_so_is_one_in_a_list_of_cpus(box: Box) -> None:
    irq = box.kernel()["irqs"][0][0]
    assert box.run("write", f"/proc/irq/{irq}/smp_affinity_list", *DIGITS).code == 1


@pytest.mark.parametrize(
    "argv",
    [
        ("insmod", "softirq_storm", "loads=0"),
        ("insmod", "softirq_storm", "loads=50,-1"),
        ("insmod", "softirq_storm", "loads=some"),
        ("insmod", "softirq_storm", "loads="),
        ("insmod", "softirq_storm", "cost_us=0"),
        ("insmod", "softirq_storm", "window_ms=0"),
        ("insmod", "softirq_storm", "budget=0"),
        ("iptables", "-D", "INPUT", "²"),
        ("iptables", "-D", "INPUT", "9" * 5000),
        ("iptables", "-A", "INPUT", "-p", "9" * 5000),
        ("tcpdump", "-s", "all"),
        ("tcpdump", "-s", "9" * 200),
    ],
)
def test_a_word_that_is_no_number_or_out_of_range_is_refused(
    box: Box, argv: tuple[str, ...]
) -> None:
    assert box.run(*argv).code not in (0, None)


@pytest.mark.parametrize("what", ["ping:²", "ping:" + "9" * 5000, "spurious:" + "9" * 5000])
def test_a_snapshot_of_what_is_no_number_is_answered(what: str) -> None:
    bench = BareCpu("6.1")
    bench.turn(("control", Snapshot(7, what)))
    assert [reply.request for reply in bench.outbox["control"]] == [7]


def test_a_timer_further_away_than_time_itself_waits_till_the_end_of_time() -> None:
    bench = BareCpu("6.1")
    timer = HrTimer(lambda cpu: None, "late")
    bench.cpu.timers.hrtimer_start(timer, 10**40)
    assert timer.expires_ns == KTIME_MAX


def test_a_module_whose_irq_is_taken_is_told_that_it_is_busy(box: Box) -> None:
    @module("taker")
    def init(cpu: Cpu, _params: Values) -> Context:
        irq_sim_create(cpu, 250)
        yield
        try:
            irq_sim_create(cpu, 250)
        finally:
            irq_sim_remove(cpu, 250)

    try:
        ran = box.run("insmod", "taker")
    finally:
        del MODULES["taker"]
    assert (ran.code, ran.err) == (
        1,
        "insmod: ERROR: could not insert module taker: Device or resource busy\n",
    )


def test_a_lab_module_can_be_loaded_again_and_again(box: Box) -> None:
    for _ in range(10):
        assert box.run("insmod", "bh_off_irq_off", "hold_ms=1").code == 0
        assert box.run("rmmod", "bh_off_irq_off").code == 0


def test_a_program_that_an_oops_ends_has_ended_for_who_waits_for_it(box: Box) -> None:
    @program("faulter")
    def main(_cpu: Cpu, _process: Process, _argv: tuple[str, ...]) -> Context:
        yield SoftwareInterrupt(0x41, 3)  # no gate for user mode

    try:
        assert box.run("faulter").code == 128 + 11
    finally:
        del PROGRAMS["faulter"]
    assert box.ping("-c", "1").code == 0


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("hz", "0", "hz is 100 to 1000"),
        ("hz", "-250", "hz is 100 to 1000"),
        ("hz", "many", "hz is a whole number"),
        ("local_timer_vector", "0x41", "there is no behaviour local_timer_vector"),
        ("ksoftirqd_nice", "20", "ksoftirqd_nice is -20 to 19"),
        ("watchdog_thresh", "99", "watchdog_thresh is 0 to 60"),
    ],
)
def test_a_behaviour_that_is_a_number_has_its_range(name: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        with_overrides(PRESETS["6.1"], ((name, text),))
