"""Workqueues while one of their CPUs is offline, and what that finds when it is back."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.words import OTHER_WORK
from nodes.cpu.kernel.workqueue import (
    INIT_WORK,
    Workqueue,
    create_workqueue,
    destroy_workqueue,
    schedule_work,
    workqueue_offline_cpu,
    workqueue_online_cpu,
)
from tests.nodes.cpu.harness import ERAS, MS
from tests.nodes.cpu.hotplugs import Cpus


@pytest.mark.parametrize("era", ERAS)
def test_a_workqueue_that_was_destroyed_meanwhile_has_no_thread_left(era: str) -> None:
    cpus = Cpus(era)
    zero, one = cpus.zero.cpu, cpus.one.cpu
    made: list[Workqueue] = []

    def create() -> Context:
        made.append((yield from create_workqueue(zero, "short")))

    def threads() -> list[str]:
        return [t.comm for t in one.rq.all.values() if t.comm.startswith("short")]

    cpus.run(0, create())
    cpus.live(MS)
    assert threads()
    assert cpus.down() == 0
    cpus.run(0, destroy_workqueue(zero, made[0]))
    assert cpus.up() == 0
    cpus.live(10 * MS)
    assert made[0].id not in one.wq.workqueues
    assert threads() == []


def test_2_6_18_keeps_a_work_that_only_the_dead_cpu_knows_for_when_it_is_back() -> None:
    cpus = Cpus("2.6.18")
    one = cpus.one.cpu
    ran: list[str] = []

    def notes(cpu: Cpu) -> Context:
        ran.append(cpu.name)
        yield

    work = INIT_WORK(one, OTHER_WORK + 1, "mine", notes)

    def queue_and_go() -> Context:
        yield from schedule_work(one, work)
        yield from workqueue_offline_cpu(one)  # before its thread has run

    cpus.run(1, queue_and_go())
    cpus.live(10 * MS)
    assert ran == []
    cpus.run(1, workqueue_online_cpu(one))
    cpus.live(10 * MS)
    assert ran == ["cpu1"]
    assert not any(bench.cpu.wq.parked for bench in cpus.all)
