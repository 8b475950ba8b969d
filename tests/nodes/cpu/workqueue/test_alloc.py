"""alloc_workqueue: flags, clamping, the workqueues of every kernel; the snapshot."""

from __future__ import annotations

import msgpack
import pytest

from nodes.cpu.kernel.snapshot import snapshot
from nodes.cpu.kernel.workqueue import (
    WQ_FREEZABLE,
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    WQ_POWER_EFFICIENT,
    WQ_UNBOUND,
    create_freezable_workqueue,
    create_singlethread_workqueue,
    create_workqueue,
    schedule_work,
    workqueue_set_max_active,
)
from nodes.cpu.kernel.workqueue.alloc import WQ_LEGACY, WQ_ORDERED, WQ_ORDERED_EXPLICIT
from tests.nodes.cpu.harness import MS, BareCpu
from tests.nodes.cpu.several import Several
from tests.nodes.cpu.workqueue.bench import CMWQ, Log, now, sleep
from tests.nodes.cpu.workqueue.test_queueing import result, workqueue


def test_the_workqueues_that_every_kernel_has() -> None:
    names = {
        era: [wq.name for wq in BareCpu(era).cpu.wq.workqueues.values()]
        for era in ("2.6.18", *CMWQ)
    }
    assert names["2.6.18"] == ["events"]
    assert names["3.10"] == [
        "events", "events_highpri", "events_long", "events_unbound", "events_freezable",
    ]  # fmt: skip
    assert names["6.1"] == [
        *names["3.10"], "events_power_efficient", "events_freezable_power_",  # 23 characters
    ]  # fmt: skip
    wq = BareCpu("6.1").cpu.wq
    assert wq.system_highpri_wq.flags == WQ_HIGHPRI
    assert wq.system_unbound_wq.flags == WQ_UNBOUND
    assert (wq.system_wq.saved_max_active, wq.system_unbound_wq.saved_max_active) == (256, 512)


@pytest.mark.parametrize("setting", ["off", "on"])
def test_power_efficient_is_unbound_if_the_boot_option_says_so(setting: str) -> None:
    bench = BareCpu("6.1", overrides=(("wq_power_efficient", setting),))
    unbound = WQ_UNBOUND if setting == "on" else 0
    assert bench.cpu.wq.system_power_efficient_wq.flags & WQ_UNBOUND == unbound
    assert workqueue(bench, WQ_POWER_EFFICIENT).flags & WQ_UNBOUND == unbound


@pytest.mark.parametrize("era", CMWQ)
@pytest.mark.parametrize(
    ("flags", "asked", "given", "limit"),
    [(0, 0, 256, 0), (0, 512, 512, 0), (0, 513, 512, 512), (0, -1, 1, 512), (WQ_UNBOUND, 9, 9, 0),
     (WQ_UNBOUND, 1000, 512, 512)],
)  # fmt: skip
def test_max_active_is_clamped_with_a_warning(
    era: str, flags: int, asked: int, given: int, limit: int
) -> None:
    bench = BareCpu(era)
    wq = workqueue(bench, flags, asked)
    assert wq.saved_max_active == given
    assert all(pwq.max_active == given for pwq in wq.pwqs.values())
    said = [line for line in bench.log() if "max_active" in line]
    assert said == (
        [
            f"workqueue: max_active {asked} requested for test is out of range, "
            f"clamping between 1 and {limit}"
        ]
        if limit
        else []
    )


def test_the_older_ways_of_making_one() -> None:
    bench = BareCpu("6.1")
    made = {
        make.__name__: result(bench, make(bench.cpu, "x"))
        for make in (create_workqueue, create_freezable_workqueue, create_singlethread_workqueue)
    }
    assert made["create_workqueue"].flags == WQ_MEM_RECLAIM | WQ_LEGACY
    freezable = made["create_freezable_workqueue"]
    wanted = WQ_FREEZABLE | WQ_UNBOUND | WQ_MEM_RECLAIM | WQ_LEGACY | WQ_ORDERED
    assert freezable.flags == wanted
    single = made["create_singlethread_workqueue"]
    ordered = WQ_UNBOUND | WQ_MEM_RECLAIM | WQ_LEGACY | WQ_ORDERED | WQ_ORDERED_EXPLICIT
    assert single.flags == ordered
    assert {wq.saved_max_active for wq in made.values()} == {1}
    result(bench, workqueue_set_max_active(bench.cpu, single, 5))
    assert single.saved_max_active == 1
    assert any("WARNING" in line for line in bench.log())


@pytest.mark.parametrize("era", CMWQ)
def test_a_pool_workqueue_a_cpu_and_one_for_the_ordered(era: str) -> None:
    pair = Several(era)
    zero, one = (bench.cpu for bench in pair.all)
    wqs = {
        "bound": workqueue(pair, 0, 7).id,
        "unbound": workqueue(pair, WQ_UNBOUND, 7).id,
        "ordered": result(pair, create_singlethread_workqueue(zero, "o")).id,
    }
    pair.live(MS)
    pools = {
        name: [list(cpu.wq.workqueues[number].pwqs) for cpu in (zero, one)]
        for name, number in wqs.items()
    }
    assert pools == {"bound": [[0], [2]], "unbound": [[4], [6]], "ordered": [[4], []]}


@pytest.mark.parametrize("era", ["2.6.18", *CMWQ])
def test_the_snapshot_is_plain_and_says_what_runs(era: str) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    for name in "abc":
        now(schedule_work(bench.cpu, log.work(name, sleep)))
    bench.run_for(2 * MS)
    value = snapshot(bench.cpu, "workqueues")
    assert len(msgpack.packb(value)) < 65536
    if era == "2.6.18":
        assert value["threads"][0]["worklist"] == ["b", "c"]
        return
    pool = value["pools"][0]
    assert (pool["nr_workers"], pool["nr_idle"], pool["nr_running"]) == (4, 1, 0)
    assert [w["work"] for w in pool["workers"] if w["work"]] == ["a", "b", "c"]
    assert [p["id"] for p in value["pools"]] == [0, 1, 2, 3]
    events = value["workqueues"][0]
    assert events["name"] == "events"
    (pwq,) = events["pwqs"]
    assert (pwq["started"], pwq["completed"], pwq["nr_in_flight"]) == (3, 0, 3)
    assert pwq["cm_wakeup"] == 2  # a and b slept, and somebody waited
