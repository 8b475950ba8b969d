"""The modules wq_works and delayed_work: the timelines of Documentation/core-api/workqueue.rst,
each event at its time. The document leaves out all overhead; here each boundary costs 250 ns."""

from __future__ import annotations

import re

import pytest

from tests.nodes.cpu.harness import ERAS, Box
from tests.nodes.cpu.test_modules import last_report

CMWQ = ("3.10", "6.1")
#: What the overheads on the way may come to.
LATE_MS = 0.02

#: w0 burns 5 ms, sleeps 10, burns 5; w1 and w2 burn 5, sleep 10. The document's words.
ORIGINAL = """
    0   w0 starts
    5   w0 sleeps
    15  w0 wakes
    20  w0 finishes
    20  w1 starts
    25  w1 sleeps
    35  w1 wakes
    35  w1 finishes
    35  w2 starts
    40  w2 sleeps
    50  w2 wakes
    50  w2 finishes
"""
ROOM_FOR_ALL = """
    0   w0 starts
    5   w0 sleeps
    5   w1 starts
    10  w1 sleeps
    10  w2 starts
    15  w2 sleeps
    15  w0 wakes
    20  w0 finishes
    20  w1 wakes
    20  w1 finishes
    25  w2 wakes
    25  w2 finishes
"""
MAX_ACTIVE_2 = """
    0   w0 starts
    5   w0 sleeps
    5   w1 starts
    10  w1 sleeps
    15  w0 wakes
    20  w0 finishes
    20  w1 wakes
    20  w1 finishes
    20  w2 starts
    25  w2 sleeps
    35  w2 wakes
    35  w2 finishes
"""
#: The document lets w2 start together with w1; it has its worker then, and the CPU when w1 sleeps.
CPU_INTENSIVE = ROOM_FOR_ALL
#: Not in the document: the pool of nice -20 comes first though w2 was queued last.
HIGHPRI = """
    0   w2 starts
    5   w2 sleeps
    5   w0 starts
    10  w0 sleeps
    10  w1 starts
    15  w1 sleeps
    15  w2 wakes
    15  w2 finishes
    20  w0 wakes
    25  w0 finishes
    25  w1 wakes
    25  w1 finishes
"""
SECOND = "q1=w1,w2"

RUNS = [
    *[("2.6.18", args, ORIGINAL) for args in ((), ("max_active=2",))],
    *[(era, (), ROOM_FOR_ALL) for era in CMWQ],
    *[(era, ("max_active=3",), ROOM_FOR_ALL) for era in CMWQ],
    *[(era, ("max_active=2",), MAX_ACTIVE_2) for era in CMWQ],
    *[(era, ("max_active=1",), ORIGINAL) for era in CMWQ],
    *[(era, (SECOND, "q1_flags=CPU_INTENSIVE"), CPU_INTENSIVE) for era in CMWQ],
    *[(era, ("q1=w2", "q1_flags=HIGHPRI"), HIGHPRI) for era in CMWQ],
]

_EVENT = re.compile(r"wq_works: (\d+\.\d+) ms: (\S+): (w\d \w+)$")


def works(era: str, *args: str, cpu: str = "cpu1") -> tuple[list[tuple[float, str, str]], Box]:
    """(ms, worker, what happened) of all CPUs, and the machine."""
    box = Box(era)
    assert box.run("insmod", "wq_works", *args, cpu=cpu).code == 0
    found = [_EVENT.match(line) for line in box.said()]
    return [(float(m[1]), m[2], m[3]) for m in found if m], box


def documented(text: str) -> list[tuple[int, str]]:
    pairs = (line.split(maxsplit=1) for line in text.split("\n") if line.strip())
    return [(int(ms), event) for ms, event in pairs]


@pytest.mark.conformance("K5.3-4", "K5.4-7", "K5.5-4", "K5.5-5", "K5.10-1", "K5.10-3")
@pytest.mark.parametrize(("era", "args", "timeline"), RUNS)
def test_each_event_of_the_documents_timelines_at_its_time(
    era: str, args: tuple[str, ...], timeline: str
) -> None:
    found, _ = works(era, *args)
    assert [event for _, _, event in found] == [event for _, event in documented(timeline)]
    for (at, _, event), (ms, _) in zip(found, documented(timeline), strict=True):
        assert ms <= at <= ms + LATE_MS, event


@pytest.mark.conformance("K5.3-5")
@pytest.mark.parametrize("era", CMWQ)
def test_works_that_only_compute_run_one_after_another_on_one_worker(era: str) -> None:
    found, _ = works(era, "w0=5", "w1=5", "w2=5")
    assert [(round(at), event) for at, _, event in found] == [
        (0, "w0 starts"), (5, "w0 finishes"), (5, "w1 starts"),
        (10, "w1 finishes"), (10, "w2 starts"), (15, "w2 finishes"),
    ]  # fmt: skip
    assert len({worker for _, worker, _ in found}) == 1


@pytest.mark.parametrize("era", CMWQ)
def test_a_cpu_intensive_work_frees_its_pool_for_another_worker(era: str) -> None:
    """All three are CPU-intensive: no one waits for a sleep, only for the CPU."""
    found, _ = works(era, "flags=CPU_INTENSIVE", "w0=20", "w1=20", "w2=20")
    assert len({worker for _, worker, _ in found}) == 3


@pytest.mark.conformance("K5.10-1")
def test_in_2_6_18_another_workqueue_has_another_thread() -> None:
    found, _ = works("2.6.18", SECOND)
    assert {worker for _, worker, _ in found} == {"q0/1", "q1/1"}
    assert (5, "w1 starts") in [(round(at), event) for at, _, event in found]


@pytest.mark.parametrize("era", ERAS)
def test_works_of_other_cpus_run_there_and_the_module_waits_for_them(era: str) -> None:
    found, _ = works(era, "cpus=0,1", "system")
    workers = {worker for _, worker, _ in found}
    assert {name[-1] if era == "2.6.18" else name[8] for name in workers} == {"0", "1"}
    assert len([event for _, _, event in found if event.endswith("finishes")]) == 6


@pytest.mark.parametrize("era", ERAS)
def test_a_report_is_in_the_documents_ms_however_it_is_stretched(era: str) -> None:
    _, box = works(era, "w1=", "w2=", "scale=4")
    lines = [line for line in box.said() if line.startswith("wq_works: t0=")]
    assert lines == ["wq_works: t0=w0-starts t5=w0-sleeps t15=w0-wakes t20=w0-finishes"]
    assert last_report(box, "wq_works")["took_ms"] == "20"
    assert box.run("rmmod", "wq_works").code == 0


@pytest.mark.parametrize("era", ERAS)
def test_without_waiting_insmod_is_back_when_it_has_the_cpu_and_rmmod_waits(era: str) -> None:
    box = Box(era)

    def over() -> bool:
        return any(line.endswith("w2 finishes") for line in box.said())

    assert box.run("insmod", "wq_works", "wait=n", cpu="cpu1").code == 0
    assert not over()
    assert box.run("rmmod", "wq_works", cpu="cpu1").code == 0
    assert over()


@pytest.mark.parametrize(
    "wrong",
    [
        "w0=5,x",
        "w0=²",
        "w0=70000",
        "flags=BOUND",
        "q1=w5",
        "cpus=7",
        "cpus=x",
        "raster_ms=0",
        "scale=0",
    ],
)
def test_what_wq_works_refuses(wrong: str) -> None:
    assert Box("6.1").run("insmod", "wq_works", wrong).code == 1


# ---------------------------------------------------------------- delayed works


def delayed(era: str, how: str) -> dict[str, str]:
    box = Box(era)
    assert box.run("insmod", "delayed_work", f"how={how}", cpu="cpu1").code == 0
    found = last_report(box, "delayed_work")
    assert box.run("rmmod", "delayed_work").code == 0
    return found


@pytest.mark.parametrize("era", ERAS)
def test_a_delayed_work_runs_after_its_delay_in_a_worker_of_this_cpu(era: str) -> None:
    found = delayed(era, "wait")
    assert found["queued"] == "1"
    assert found["worker"] == "events/1" if era == "2.6.18" else "kworker/1:"
    assert int(found["delay"]) <= int(found["ran"]) <= int(found["delay"]) + 1


@pytest.mark.conformance("K5.4-8")
@pytest.mark.parametrize("era", ERAS)
def test_with_a_delay_of_0_no_timer_is_waited_for(era: str) -> None:
    assert float(delayed(era, "zero")["after_ms"]) < LATE_MS


@pytest.mark.parametrize("era", ERAS)
def test_a_delayed_work_that_is_due_waits_for_the_cpu(era: str) -> None:
    found = delayed(era, "busy")
    assert found["ran_meanwhile"] == "0"
    assert int(found["late_ms"]) in (20, 21)


@pytest.mark.conformance("K5.4-1")
@pytest.mark.parametrize("era", ERAS)
def test_a_delayed_work_is_queued_once_moved_and_cancelled(era: str) -> None:
    found = delayed(era, "again")
    assert (found["first"], found["second"], found["cancelled"], found["runs"]) == (
        "1", "0", "1", "1",
    )  # fmt: skip
    assert found["moved"] == "1"
    assert 2 * int(found["delay"]) <= int(found["ran"]) <= 2 * int(found["delay"]) + 1
