"""A CPU goes offline and comes back, in virtual time: kernel/cpu.c by era."""

from __future__ import annotations

from errno import EBUSY, EINVAL, EIO, ENOSPC, ETIMEDOUT

import pytest

from nodes.cpu.kernel.cpuhp_states import DOWN, UP
from orchestrator.ledger import settled
from tests.nodes.cpu.harness import ERAS, MS, SECOND, Box
from tests.nodes.cpu.hotplugs import OFFLINE, Cpus, change

SAID = {
    "2.6.18": [
        "CPU 1 is now offline",
        "Booting processor 1/2 APIC 0x1",
        "Initializing CPU#1",
    ],
    "3.10": ["smpboot: CPU 1 is now offline", "smpboot: Booting Node 0 Processor 1 APIC 0x1"],
    "6.1": [
        "smpboot: CPU 1 is now offline",
        "x86: Booting SMP configuration:",
        "smpboot: Booting Node 0 Processor 1 APIC 0x1",
    ],
}


# ---------------------------------------------------------------- down and up


@pytest.mark.parametrize("era", ERAS)
def test_an_idle_cpu_goes_down_halts_and_comes_back(era: str) -> None:
    box = Box(era)
    since = box.now_s
    assert change(box, 1, up=False) == 0
    assert box.pages["cpu1"]["online"] == 0
    assert box.pages["cpu1"]["context"] == OFFLINE
    assert box.kernel()["online"] == [0]
    box.live(1000)
    before = box.pages["cpu1"]["boundaries"]
    assert box.ping("-c", "3", "-i", "0.1").code == 0
    assert box.ask("cpu1", "kernel")["release"]  # its process lives and answers
    assert box.pages["cpu1"]["boundaries"] == before
    assert change(box, 1, up=True) == 0
    assert box.pages["cpu1"]["online"] == 1
    assert box.kernel()["online"] == [0, 1]
    assert box.ping("-c", "3", "-i", "0.1", cpu="cpu1").code == 0
    said = [text for text in box.said(since) if "affinity" not in text]
    assert said == SAID[era]
    assert settled(box.machine).balanced


@pytest.mark.parametrize("era", ERAS)
def test_ten_times_off_and_on_leave_nothing_behind(era: str) -> None:
    cpus = Cpus(era)
    tasks = len(cpus.one.cpu.rq.all)
    for _ in range(10):
        assert cpus.down() == 0
        assert cpus.halted()
        assert cpus.up() == 0
        assert not cpus.halted()
    cpus.live(50 * MS)
    assert len(cpus.one.cpu.rq.all) <= tasks + 1
    assert cpus.one["preempt_count"] == 0
    assert not cpus.said("WARNING")


def test_the_boot_cpu_and_the_last_cpu_stay() -> None:
    cpus = Cpus("6.1")
    assert cpus.down(0) == -EBUSY
    assert cpus.down(1) == 0
    assert cpus.down(1) == -EBUSY


@pytest.mark.parametrize(("era", "answer"), [("2.6.18", -EINVAL), ("3.10", -EINVAL), ("6.1", 0)])
def test_what_is_so_already(era: str, answer: int) -> None:
    cpus = Cpus(era, 3)
    assert cpus.up(1) == answer
    assert cpus.down(1) == 0
    assert cpus.down(1) == answer
    assert cpus.up(7) == cpus.down(7) == -EINVAL


@pytest.mark.parametrize("era", ERAS)
def test_two_requests_at_once_are_served_one_after_the_other(era: str) -> None:
    cpus = Cpus(era, 4)
    answers = [cpus.change(number, up=False, by=by) for number, by in ((1, 0), (2, 3))]
    cpus.until(lambda: all(answers))
    cpus.live(MS)
    assert answers == [[0], [0]]
    assert cpus.down(3) == 0
    assert [cpus.halted(number) for number in (1, 2, 3)] == [True] * 3
    assert cpus.up(2) == 0
    assert cpus.up(3, by=2) == 0
    cpus.live(MS)
    assert [bench.cpu.online_cpus for bench in (cpus.zero, cpus.all[2], cpus.all[3])] == [
        [0, 2, 3]
    ] * 3


@pytest.mark.parametrize("era", ERAS)
def test_the_steps_have_the_names_of_the_era_and_each_way_has_its_order(era: str) -> None:
    kind = Cpus(era, started=False).zero.cpu.params.cpu_hotplug
    down, up = ([step.name for step in table[kind]] for table in (DOWN, UP))
    if kind == "states":
        assert down.index("workqueue:online") < down.index("smpboot/threads:online")
        assert down.index("smpboot/threads:online") < down.index("sched:waitempty")
        assert up.index("smpboot/threads:online") < up.index("workqueue:online")
    assert down.index("take_cpu_down") < down.index("remove_cpu_from_maps")
    assert up.index("cpu:bringup") > 0


# ---------------------------------------------------------------- what may go wrong


def test_it_may_not_go_if_its_lines_find_no_vector_and_goes_on_as_before() -> None:
    box = Box("6.1")
    space = box.machine.simulation.node("cpu0").cpu.vectors
    for irq in range(1000, 1000 + space.available[0] - 1):
        space.assign(irq, 1, 3)
    assert change(box, 1, up=False) == -ENOSPC
    assert box.kernel()["online"] == [0, 1]
    one = box.machine.simulation.node("cpu1").cpu
    assert not one.softirq.should_park
    assert box.ping("-c", "3", "-i", "0.1", cpu="cpu1").code == 0


@pytest.mark.parametrize(("era", "hung"), [("2.6.18", 0), ("3.10", 1), ("6.1", 1)])
def test_a_frozen_cpu_is_waited_for_until_khungtaskd_speaks(era: str, hung: int) -> None:
    box = Box(era)
    box.machine.freeze("cpu1")
    assert change(box, 1, up=False) == -ETIMEDOUT
    assert sum("blocked for more than 120 seconds." in text for text in box.said()) == hung
    assert box.kernel()["online"] == [0, 1]


@pytest.mark.parametrize("era", ERAS)
def test_a_cpu_that_hangs_on_its_last_steps_is_said_not_to_die(era: str) -> None:
    cpus = Cpus(era)
    answer = cpus.change(1, up=False)
    cpus.until(lambda: cpus.zero.cpu.online_cpus == [0])
    cpus.dead.append(1)
    cpus.until(lambda: bool(answer), 10 * SECOND)
    assert answer == [0]
    assert any(text.endswith("CPU 1 didn't die...") for text in cpus.said())
    cpus.dead.clear()
    assert cpus.up() == 0  # it has thawed: it dies first
    assert cpus.zero.cpu.online_cpus == [0, 1]


@pytest.mark.parametrize("era", ERAS)
def test_a_cpu_that_does_not_come_up_is_reported(era: str) -> None:
    cpus = Cpus(era)
    assert cpus.down() == 0
    cpus.dead.append(1)
    assert cpus.up() == -EIO
    wanted = {
        "2.6.18": "Not responding.",
        "3.10": "smpboot: CPU1: Not responding",
        "6.1": "smpboot: do_boot_cpu failed(-1) to wakeup CPU#1",
    }
    assert cpus.said(wanted[era])
    cpus.dead.clear()
    cpus.one.ns = cpus.zero.ns
    assert cpus.up() == 0


@pytest.mark.parametrize("era", ERAS)
def test_asked_by_a_task_of_the_cpu_itself_it_stays_and_goes_on(era: str) -> None:
    cpus = Cpus(era)
    assert cpus.down(1, by=1) == -EBUSY
    assert cpus.zero.cpu.online_cpus == [0, 1]
    assert cpus.one.cpu.programs.active
    assert cpus.down(1) == 0
    assert cpus.up(1) == 0


# ---------------------------------------------------------------- what is shown


@pytest.mark.conformance("K8.4-2")
@pytest.mark.parametrize("era", ERAS)
def test_interrupts_lose_the_column_and_softirqs_keep_it(era: str) -> None:
    box = Box(era)
    assert box.ping("-c", "5", "-i", "0.05", cpu="cpu1").code == 0
    before = box.proc("/proc/interrupts")
    assert change(box, 1, up=False) == 0
    away = box.proc("/proc/interrupts")
    assert away.splitlines()[0].split() == ["CPU0"]
    if era != "2.6.18":
        assert box.proc("/proc/softirqs").splitlines()[0].split() == ["CPU0", "CPU1"]
    assert "cpu1 " not in box.proc("/proc/stat")
    assert box.proc("/proc/cpuinfo").count("processor\t") == 1
    assert len(box.proc("/proc/net/softnet_stat").splitlines()) == 1
    assert change(box, 1, up=True) == 0
    after = box.proc("/proc/interrupts")
    assert after.splitlines()[0].split() == ["CPU0", "CPU1"]
    was, now = (
        next(line for line in text.splitlines() if "LOC:" in line) for text in (before, after)
    )
    assert int(now.split()[2]) >= int(was.split()[2]) > 0


@pytest.mark.parametrize("era", ERAS)
def test_time_offline_is_no_idle_time(era: str) -> None:
    box = Box(era)
    assert change(box, 1, up=False) == 0
    assert box.pages["cpu1"]["idle_since_ns"] == 0
    idle = box.pages["cpu1"].run("cpustat")[3]
    box.live(3000)
    assert change(box, 1, up=True) == 0
    box.live(20)
    assert box.pages["cpu1"].run("cpustat")[3] - idle < 100 * MS
