"""The modules of the labs lock-contexts and sleep-in-atomic, and what their pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nodes.cpu.kernel.locks.spinlock import Spinlock, spin_lock, spin_unlock
from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.timer import msleep
from tests.nodes.cpu.duo import ON
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu, Box

PAGES = Path(__file__).parents[3] / "docs" / "labs"
KEY = "3dd791e26cec05180db3942aec2b4fa57caf49ea3dad14e2beaa55b8ea673e6a174d36140d20ed3b"
COUNTED = (("preempt_count", "on"),)
#: With three CPUs and this key replies of the gateway arrive on cpu1, in every era.
FIXED = (("rss_key", KEY),)


def last_report(box: Box, name: str) -> dict[str, str]:
    lines = [text for text in box.said() if re.match(rf"{name}: \w+=", text)]
    return dict(word.split("=") for word in lines[-1].split()[1:])


def rows_of_page(name: str, columns: int) -> list[list[str]]:
    """Rows of the page's table that has so many columns, without its head and the lab's box."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip(" `") for cell in row] for row in rows]
    return [row for row in cells if len(row) == columns][1:]


# ---------------------------------------------------------------- lock_contexts


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("overrides", [(), ON])
def test_every_way_of_protecting_a_count_against_every_other_user(
    era: str, overrides: tuple[tuple[str, str], ...]
) -> None:
    box = Box(era, overrides=overrides)
    assert box.run("insmod", "lock_contexts", cpu="cpu1").code == 0
    at = next(n for n, text in enumerate(box.said()) if text.startswith("none  "))
    assert [text.split() for text in box.said()[at : at + 6]] == [
        ["none", "lost", "lost", "lost", "lost", "lost"],
        ["local_bh_disable", "ok", "lost", "lost", "lost", "lost"],
        ["local_irq_save", "ok", "ok", "lost", "lost", "lost"],
        ["spin_lock", "dead", "dead", "ok", "ok", "ok"],
        ["spin_lock_bh", "ok", "dead", "ok", "ok", "ok"],
        ["spin_lock_irqsave", "ok", "ok", "ok", "ok", "ok"],
    ]
    assert not any("WARNING" in text or "INFO:" in text for text in box.said())


def test_the_page_names_the_weakest_safe_choices_as_the_module_finds_them() -> None:
    box = Box()
    box.run("insmod", "lock_contexts", cpu="cpu1")
    rows = rows_of_page("lock-contexts", 4)
    assert {row[3]: row[2] for row in rows} == last_report(box, "lock_contexts")


def test_lock_contexts_needs_another_cpu() -> None:
    assert Box(cpus=1).run("insmod", "lock_contexts").code == 1


# ---------------------------------------------------------------- conntable


def conntable(box: Box, out: str, *options: str) -> None:
    assert box.run("insmod", "conntable", f"out={out}", *options, cpu="cpu1").code == 0


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("out", ["spin_lock_bh", "spin_lock_irqsave", "local_bh_disable"])
def test_a_table_that_is_locked_with_bottom_halves_off_is_consistent(era: str, out: str) -> None:
    box = Box(era, cpus=3, overrides=(*ON, *FIXED))
    conntable(box, out)
    assert box.ping("-l", "10", "-c", "10", cpu="cpu1").code == 0
    assert box.run("rmmod", "conntable", cpu="cpu1").code == 0
    found = last_report(box, "conntable")
    assert (found["updates"], found["lost"], found["forced"]) == ("20", "0", "0")
    assert not any("inconsistent" in text for text in box.said())
    assert box.ping("-c", "1").code == 0


def test_a_table_without_a_lock_loses_updates() -> None:
    box = Box(cpus=3, overrides=FIXED)
    conntable(box, "none")
    box.ping("-l", "10", "-c", "10", cpu="cpu1")
    box.run("rmmod", "conntable", cpu="cpu0")
    assert int(last_report(box, "conntable")["lost"]) > 0


def test_bottom_halves_off_do_not_keep_out_another_cpu() -> None:
    box = Box(cpus=3, overrides=FIXED)
    conntable(box, "local_bh_disable")
    box.ping("-l", "10", "-c", "10", cpu="cpu0")  # cpu1 receives the replies
    box.run("rmmod", "conntable")
    assert int(last_report(box, "conntable")["lost"]) > 0


@pytest.mark.parametrize("era", ERAS)
def test_lockdep_reports_the_plain_lock_at_one_ping_that_ends_well(era: str) -> None:
    box = Box(era, cpus=3, overrides=(*ON, *FIXED))
    conntable(box, "spin_lock")
    assert box.ping("-c", "1", cpu="cpu1").code == 0
    said = box.said()
    at = next(n for n, text in enumerate(said) if "inconsistent lock state" in text)
    assert any("conntable_out" in text for text in said[at:])  # the path that was registered
    assert any("conntable_in" in text for text in said[at:])  # and the one that takes it


def counts(box: Box) -> tuple[int, int, int]:
    """Softirqs, switches and hard interrupts of cpu1."""
    page = box.pages["cpu1"]
    return sum(page.run("softirqs")), page["ctxt"], sum(page.run("arch_irqs"))


@pytest.mark.parametrize("era", ERAS)
def test_the_plain_lock_stops_its_cpu_until_it_is_opened_by_force(era: str) -> None:
    box = Box(era, cpus=3, overrides=FIXED)
    conntable(box, "spin_lock", "limit_ms=500")
    job = box.start("ping", "-l", "10", "-c", "10", "192.168.1.1", cpu="cpu1")
    box.live(50)
    before = counts(box)
    other = box.start("ping", "-c", "1", "192.168.1.4", cpu="cpu2")
    box.live(300)
    after = counts(box)
    assert after[:2] == before[:2]  # no softirq, no switch
    assert after[2] > before[2]  # hard interrupts come in
    assert not job.done
    assert not other.done
    assert box.run("sleep", "0.01", cpu="cpu0").code == 0
    assert box.run("rmmod", "conntable", cpu="cpu1").code == 0
    found = last_report(box, "conntable")
    assert found["forced"] == "1"
    assert int(found["lost"]) >= 1
    assert (box.end(job).code, box.end(other).code) == (0, 0)


def test_the_module_refuses_what_it_does_not_know() -> None:
    box = Box()
    for option in ("out=mutex", "walk_ms=-1", "limit_ms=1"):
        assert box.run("insmod", "conntable", option).code == 1


# ---------------------------------------------------------------- sleep_in_atomic


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("count", ["on", "off"])
@pytest.mark.parametrize("how", ["msleep", "mutex_lock"])
def test_what_each_kernel_says_of_a_sleep_is_what_the_page_says(
    era: str, count: str, how: str
) -> None:
    box = Box(era, overrides=(("preempt_count", count),))
    assert box.run("insmod", "sleep_in_atomic", f"how={how}", cpu="cpu1").code == 0
    found = last_report(box, "sleep_in_atomic")
    column = 1 + 2 * (how == "mutex_lock") + (count == "off")
    assert {row[0]: row[column] for row in rows_of_page("sleep-in-atomic", 5)} == {
        place: found[place] for place in ("spin_lock", "bh_off", "irq_off", "tasklet", "timer")
    }
    assert int(found["spun_ms"]) >= 10
    assert int(found["victim_ms"]) >= 10
    assert int(found["softirqs_inside"]) >= 1
    assert found["irqs_after"] == "1"
    assert box.ping("-c", "1", cpu="cpu1").code == 0  # the CPU is well again


def test_the_stack_of_a_wrong_sleep_names_who_slept() -> None:
    box = Box(overrides=COUNTED)
    box.run("insmod", "sleep_in_atomic", "where=spin_lock,tasklet", cpu="cpu1")
    said = box.said()
    for place, caller in (("spin_lock", " under_spin_lock"), ("tasklet", " lab_tasklet")):
        at = next(
            n
            for n, text in enumerate(said)
            if text.startswith(f"BUG: scheduling while atomic: {place}/")
        )
        stack = said[at : said.index(" </TASK>", at)]
        assert stack.index(" schedule") < stack.index(" msleep") < stack.index(caller)


def test_who_spins_on_the_sleepers_own_cpu_never_lets_it_wake() -> None:
    bench, done = BareCpu(overrides=COUNTED), []
    table = Spinlock(40, "t")

    def sleeper(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        yield from msleep(cpu, 5)
        yield from spin_unlock(cpu, table)
        done.append("sleeper")

    def spinner(cpu: Cpu) -> Context:
        yield USER
        yield from spin_lock(cpu, table)
        done.append("spinner")

    bench.task(sleeper(bench.cpu))
    bench.task(spinner(bench.cpu), "spinner")
    bench.run_for(2 * SECOND)
    assert done == []
    assert bench.cpu.current.comm == "spinner"


# ---------------------------------------------------------------- sleep


def test_sleep_sleeps_for_the_sum_of_its_words() -> None:
    box = Box()
    began = box.machine.now_ns()
    assert box.run("sleep", "0.01", ".02s").code == 0
    assert 30 * MS <= box.machine.now_ns() - began < 31 * MS
    assert box.run("sleep").err == "sleep: missing operand\n"
    assert box.run("sleep", "long").err == "sleep: invalid time interval 'long'\n"
