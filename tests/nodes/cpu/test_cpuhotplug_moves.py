"""What a CPU has when it goes offline: timers, tasklets, calls, works, packets. Nothing is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from errno import ENXIO
from typing import Any

import pytest

from bus.ram import CSD_RECORDS
from nodes.cpu.kernel import timer_shared, words
from nodes.cpu.kernel.net.handover import skb_of, sock_handover
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.socket import Socket, sock_open
from nodes.cpu.kernel.net.sockmove import sock_moved, sock_pack, sock_unpack
from nodes.cpu.kernel.percpu import Context, Cpu, Pause
from nodes.cpu.kernel.rcu import call_rcu, synchronize_rcu
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE, kthread_run
from nodes.cpu.kernel.smp import (
    REMOTE_FUNCTIONS,
    call_function_single,
    queue_remote_wakeup,
    remote_function,
)
from nodes.cpu.kernel.smpcall import smp_call_function_single
from nodes.cpu.kernel.softirq import raise_softirq
from nodes.cpu.kernel.tasklet import tasklet_hi_schedule, tasklet_init, tasklet_schedule
from nodes.cpu.kernel.timer import schedule_timeout, schedule_timeout_uninterruptible
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    INIT_WORK,
    queue_delayed_work_on,
    queue_work_on,
)
from orchestrator.ledger import settled
from tests.nodes.cpu.harness import ERAS, MS, SECOND, Box
from tests.nodes.cpu.hotplugs import Cpus, change

RECORD = 900


# ---------------------------------------------------------------- timers, tasklets, RCU


@pytest.mark.conformance("K8.4-1")
@pytest.mark.parametrize("era", ERAS)
def test_no_timer_is_lost_and_none_fires_early(era: str) -> None:
    cpus = Cpus(era)
    fired: list[tuple[int, int, int]] = []  # (number, on which CPU, jiffies)
    due: dict[int, int] = {}
    for number in range(20, 40):
        for bench in cpus.all:
            timer_shared.shared_timer_setup(bench.cpu, _note(fired, number), number)
    one = cpus.one.cpu

    def arm(cpu: Cpu) -> Context:
        for number in range(20, 40):
            due[number] = cpu.jiffies() + 1 + (number - 20) * 7
            timer_shared.mod_timer(cpu, cpu.timers.shared[number], due[number])
            yield

    cpus.run(1, arm(one))
    assert cpus.down() == 0
    cpus.live(2 * SECOND)
    assert sorted(number for number, _, _ in fired) == list(range(20, 40))
    assert 0 in {on for _, on, _ in fired}
    assert all(at >= due[number] for number, _, at in fired)


def _note(fired: list[tuple[int, int, int]], number: int) -> Callable[[Cpu], None]:
    def function(cpu: Cpu) -> None:
        fired.append((number, cpu.number, cpu.jiffies()))

    return function


@pytest.mark.conformance("K8.4-1")
@pytest.mark.parametrize("era", ERAS)
def test_no_tasklet_is_lost(era: str) -> None:
    """They are scheduled by a call that the dying CPU takes off its queue at the very end."""
    cpus = Cpus(era, 3)
    ran: list[tuple[str, int]] = []

    def noted(name: str) -> Callable[[Cpu], None]:
        return lambda cpu: ran.append((name, cpu.number))

    for bench in cpus.all:
        tasklet_init(bench.cpu, noted("normal"), 40)
        tasklet_init(bench.cpu, noted("high"), 41)

    @remote_function(RECORD)
    def schedule_both(cpu: Cpu, _source: int, _record: list[int]) -> None:
        tasklet_schedule(cpu, cpu.tasklets.known[40])
        tasklet_hi_schedule(cpu, cpu.tasklets.known[41])

    def late(cpu: Cpu) -> Context:
        while cpus.one.cpu.hotplug.polling is False:
            yield Pause(cpu.now() + 10_000)
        yield from call_function_single(cpu, 1, [RECORD])

    try:
        answer = cpus.change(1, up=False)
        cpus.task(2, late(cpus.all[2].cpu))
        cpus.until(lambda: bool(answer))
        cpus.live(20 * MS)
    finally:
        del REMOTE_FUNCTIONS[RECORD]
    assert answer == [0]
    assert sorted(ran) == [("high", 0), ("normal", 0)]


@pytest.mark.conformance("K8.4-1")
@pytest.mark.parametrize("era", ERAS)
def test_a_tasklet_that_never_rests_does_not_keep_its_cpu(era: str) -> None:
    cpus = Cpus(era)
    ran: list[int] = []

    def again(cpu: Cpu) -> None:
        ran.append(cpu.number)
        if cpu.number == 1:
            tasklet_schedule(cpu, cpu.tasklets.known[40])

    for bench in cpus.all:
        tasklet_init(bench.cpu, again, 40)

    def begin(cpu: Cpu) -> Context:
        tasklet_schedule(cpu, cpu.tasklets.known[40])
        yield

    cpus.run(1, begin(cpus.one.cpu))
    assert cpus.down() == 0
    cpus.live(MS)
    assert ran[-1] == 0
    assert ran[:-1] == [1] * (len(ran) - 1)
    assert cpus.up() == 0
    cpus.live(MS)
    assert ran.count(0) == 1


@pytest.mark.parametrize(
    ("era", "worker"), [("2.6.18", "events/0"), ("3.10", "kworker/1:"), ("6.1", "kworker/1:")]
)
def test_a_delayed_work_for_a_cpu_that_goes_is_run_elsewhere_when_it_is_due(
    era: str, worker: str
) -> None:
    """Once it is queued 2.6.18 remembers no CPU: it runs where its timer goes off."""
    cpus = Cpus(era)
    ran: list[tuple[int, str]] = []

    def function(cpu: Cpu) -> Context:
        ran.append((cpu.number, cpu.current.comm))
        yield

    for bench in cpus.all:
        INIT_DELAYED_WORK(bench.cpu, words.OTHER_WORK, "late", function)
    zero = cpus.zero.cpu
    late = zero.wq.delayed_works[words.OTHER_WORK]
    cpus.run(0, queue_delayed_work_on(zero, 1, zero.wq.system_wq, late, zero.params.hz // 4))
    assert cpus.down() == 0
    assert ran == []
    cpus.live(SECOND)
    assert [cpu for cpu, _ in ran] == [0]
    assert ran[0][1].startswith(worker)


@pytest.mark.parametrize("era", ERAS)
def test_callbacks_of_rcu_run_before_it_halts(era: str) -> None:
    cpus = Cpus(era, 3)
    ran: list[str] = []

    def queue(cpu: Cpu) -> Context:
        call_rcu(cpu, lambda cpu: ran.append("early"))
        yield

    cpus.run(1, queue(cpus.one.cpu))
    answer = cpus.change(1, up=False)
    cpus.until(lambda: cpus.one.cpu.hotplug.polling)
    call_rcu(cpus.one.cpu, lambda cpu: ran.append("late"))
    cpus.until(lambda: bool(answer))
    assert ran == ["early", "late"]


@pytest.mark.parametrize("era", ERAS)
def test_a_grace_period_does_not_wait_for_a_cpu_that_is_offline(era: str) -> None:
    cpus = Cpus(era, 3)
    assert cpus.down() == 0
    cpus.live(100 * MS)
    began = cpus.zero.ns
    cpus.run(0, synchronize_rcu(cpus.zero.cpu))
    assert cpus.zero.ns - began < 100 * MS
    assert not cpus.said("stall")


@pytest.mark.parametrize("era", ERAS)
def test_a_timer_that_only_it_knows_fires_when_it_is_back(era: str) -> None:
    cpus = Cpus(era)
    woke: list[int] = []

    def sleeper(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        yield from schedule_timeout(cpu, cpu.params.hz // 10)
        woke.append(cpu.now())

    kthread_run(cpus.one.cpu, "sleeper/1", sleeper(cpus.one.cpu))
    cpus.one.wake = 0
    cpus.live(MS)
    assert cpus.down() == 0
    cpus.live(SECOND)
    assert not woke
    assert cpus.up() == 0
    cpus.live(50 * MS)
    assert len(woke) == 1


# ---------------------------------------------------------------- ksoftirqd


@pytest.mark.parametrize("era", ERAS)
def test_softirqs_run_again_after_it_is_back(era: str) -> None:
    cpus = Cpus(era)
    old = cpus.one.cpu.softirq.ksoftirqd
    assert cpus.down() == 0
    assert (cpus.one.cpu.softirq.ksoftirqd is None) == (era == "2.6.18")
    assert cpus.up() == 0
    assert (cpus.one.cpu.softirq.ksoftirqd is old) == (era != "2.6.18")
    ran: list[int] = []
    number = cpus.one.cpu.softirq.number["BLOCK"]

    def action(cpu: Cpu) -> Context:
        ran.append(cpu.number)
        yield

    cpus.one.softirq(number, action)

    def raise_it(cpu: Cpu) -> Context:
        raise_softirq(cpu, number)
        yield

    cpus.run(1, raise_it(cpus.one.cpu))
    cpus.live(20 * MS)
    assert ran == [1]


# ---------------------------------------------------------------- other CPUs


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_call_to_a_cpu_that_is_offline_is_refused(era: str) -> None:
    cpus = Cpus(era, 3)
    assert cpus.down() == 0
    got: list[Any] = []

    @remote_function(RECORD)
    def nothing(_cpu: Cpu, _source: int, _record: list[int]) -> None:
        got.append("ran")

    def call(cpu: Cpu) -> Context:
        got.append((yield from smp_call_function_single(cpu, 1, RECORD, wait=True)))

    try:
        cpus.run(2, call(cpus.all[2].cpu))
    finally:
        del REMOTE_FUNCTIONS[RECORD]
    assert got == [-ENXIO]


@pytest.mark.parametrize("era", ERAS)
def test_a_call_that_is_waited_for_is_run_by_the_dying_cpu(era: str) -> None:
    cpus = Cpus(era, 3)
    ran: list[int] = []
    after: list[int] = []

    @remote_function(RECORD)
    def note(cpu: Cpu, _source: int, _record: list[int]) -> None:
        ran.append(cpu.number)

    def call(cpu: Cpu) -> Context:
        while 1 in cpu.online_cpus:
            yield from smp_call_function_single(cpu, 1, RECORD, wait=True)
            after.append(1)
            yield Pause(cpu.now() + 30_000)

    try:
        task = cpus.task(2, call(cpus.all[2].cpu))
        answer = cpus.change(1, up=False)
        cpus.until(lambda: bool(answer) and task.gen is None)
    finally:
        del REMOTE_FUNCTIONS[RECORD]
    assert answer == [0]
    assert len(ran) == len(after) > 5


@pytest.mark.parametrize("era", ERAS)
def test_a_wake_up_for_a_cpu_that_is_offline_warns_and_waits_for_it(era: str) -> None:
    cpus = Cpus(era)
    assert cpus.down() == 0
    ran: list[int] = []

    @remote_function(RECORD)
    def note(cpu: Cpu, _source: int, _record: list[int]) -> None:
        ran.append(cpu.number)

    def wake(cpu: Cpu) -> Context:
        yield from queue_remote_wakeup(cpu, 1, [RECORD])

    try:
        cpus.vectors()
        cpus.run(0, wake(cpus.zero.cpu))
        cpus.live(MS)
        assert cpus.vectors() == []
        assert len(cpus.said("queue_remote_wakeup")) >= 1
        assert cpus.up() == 0
        cpus.live(20 * MS)
        assert ran == [1]
    finally:
        del REMOTE_FUNCTIONS[RECORD]


def test_more_wake_ups_for_an_offline_cpu_than_its_ring_has_room_for_wait_in_order() -> None:
    cpus = Cpus("6.1")
    assert cpus.down() == 0
    ran: list[int] = []

    @remote_function(RECORD)
    def note(_cpu: Cpu, _source: int, record: list[int]) -> None:
        ran.append(record[1])

    def wake(cpu: Cpu) -> Context:
        for number in range(CSD_RECORDS + 6):
            yield from queue_remote_wakeup(cpu, 1, [RECORD, number])

    try:
        cpus.run(0, wake(cpus.zero.cpu))
        assert len(cpus.zero.cpu.ram.csd_ring(0, 1)) == CSD_RECORDS
        assert cpus.up() == 0
        cpus.live(20 * MS)
        assert ran == list(range(CSD_RECORDS + 6))
    finally:
        del REMOTE_FUNCTIONS[RECORD]


def test_6_1_names_the_cpu_that_should_not_be_woken() -> None:
    cpus = Cpus("6.1")
    assert cpus.down() == 0

    @remote_function(RECORD)
    def nothing(_cpu: Cpu, _source: int, _record: list[int]) -> None:
        pass

    try:
        cpus.run(0, queue_remote_wakeup(cpus.zero.cpu, 1, [RECORD]))
    finally:
        del REMOTE_FUNCTIONS[RECORD]
    assert "sched: Unexpected reschedule of offline CPU#1!" in cpus.said()


@pytest.mark.parametrize("era", ERAS)
def test_what_was_published_meanwhile_is_known_when_it_is_back(era: str) -> None:
    box = Box(era, cpus=3)
    assert change(box, 1, up=False) == 0
    assert box.run("write", "/proc/sys/net/core/netdev_budget", "77").code == 0
    tap = box.start("tcpdump", "-i", "eth0", cpu="cpu2")
    box.live(50)
    assert box.ping("-c", "1").code == 0
    assert change(box, 1, up=True) == 0
    box.live(5)
    one, two = (box.machine.simulation.node(f"cpu{n}").cpu for n in (1, 2))
    assert one.sysctl.netdev_budget == 77
    assert [t.session for t in one.net.taps] == [t.session for t in two.net.taps] != []
    box.interrupt(tap)
    assert box.ping("-c", "3", "-i", "0.1", cpu="cpu1").code == 0


# ---------------------------------------------------------------- everything at once


@pytest.mark.conformance("K8.4-1")
@pytest.mark.parametrize(("era", "seed"), [(era, seed) for era in ERAS for seed in (1, 2)])
def test_no_packet_is_lost_while_cpus_go_off_and_on_under_a_flood(era: str, seed: int) -> None:
    box, rng = Box(era, cpus=3, seed=seed), random.Random(seed)
    for name in ("eth0", "eth1"):  # the floods are to outlast some changes
        assert box.run("ethtool", "-C", name, "rx-usecs", "50").code == 0
    floods = [
        box.start("ping", "-q", "-f", "-c", "2500", "192.168.1.1", cpu=cpu)
        for cpu in ("cpu0", "cpu1", "cpu2")
    ]
    box.live(5)
    changes = 0
    while not all(flood.done for flood in floods):
        number = rng.choice((1, 2))
        up = number not in box.kernel()["online"]
        assert change(box, number, up=up) == 0
        changes += 1
        box.live(rng.random() * 20)
    for number in (1, 2):
        if number not in box.kernel()["online"]:
            assert change(box, number, up=True) == 0
    for flood in floods:
        ran = box.end(flood)
        assert "2500 packets transmitted, 2500 received, 0% packet loss" in ran.out
    book = settled(box.machine)
    assert book.balanced, book.faults
    assert changes > 4
    assert box.total("msi_no_handler") == 0
    assert box.total("broken_invariants") == 0


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_its_worker_pools_are_adopted_and_come_back(era: str) -> None:
    box = Box(era)
    assert change(box, 1, up=False) == 0

    def pools(node: str) -> list[tuple[int, int, bool]]:
        value = box.ask(node, "workqueues")
        return [(p["id"], p["nr_idle"], "DISASSOCIATED" in p["flags"]) for p in value["pools"]]

    adopted = [pool for pool in pools("cpu0") if pool[0] in (2, 3, 6, 7)]
    assert [(number, loose) for number, _, loose in adopted] == [(n, True) for n in (2, 3, 6, 7)]
    assert change(box, 1, up=True) == 0
    back = [(number, loose) for number, _, loose in pools("cpu1")]
    assert back == [(2, False), (3, False), (6, True), (7, True)]
    assert [number for number, _, _ in pools("cpu0")] == [0, 1, 4, 5]


@pytest.mark.parametrize("era", ERAS)
def test_a_reply_that_was_sent_to_the_old_cpu_of_a_socket_comes_back_to_its_new_one(
    era: str,
) -> None:
    """The new one sent it before the socket came to it, and the old one took it afterwards."""
    cpus = Cpus(era)
    zero, one = cpus.zero.cpu, cpus.one.cpu
    made: list[Socket] = []

    def open_it(cpu: Cpu) -> Context:
        made.append((yield from sock_open(cpu, 7, 0, 0)))

    cpus.run(1, open_it(one))
    cpus.live(MS)
    sock = made[0]
    packed = sock_pack(sock)
    frame = bytes(60)
    for cpu in (zero, one):
        cpu.net.devices[9] = NetDevice(9, "eth9", bytes(6), None)
    skb = skb_of(zero, frame, 9, 1)
    assert skb is not None
    assert not list(sock_handover(zero, 1, sock.number, skb, mine=True))  # it is on its way
    arrived = sock_unpack(zero, packed)
    cpus.one.turn(budget=0)
    for _ in sock_moved(one, sock, 0):
        pass
    cpus.live(5 * MS)
    assert len(arrived.receive_queue) == 1


# ---------------------------------------------------------------- works


@pytest.mark.conformance("K5.8-1", "K5.8-2")
@pytest.mark.parametrize("era", ERAS)
def test_works_queued_all_the_time_run_once_each_wherever_their_cpu_is(era: str) -> None:
    """Ten works of CPU 1 that sleep, queued from CPU 2 whenever they are not pending."""
    cpus = Cpus(era, 3)
    queued, ran = dict.fromkeys(range(10), 0), dict.fromkeys(range(10), 0)
    where: set[int] = set()

    def function(number: int) -> Callable[[Cpu], Context]:
        def body(cpu: Cpu) -> Context:
            where.add(cpu.number)
            ran[number] += 1
            if number % 3 == 0:
                yield from schedule_timeout_uninterruptible(cpu, 2)
            yield

        return body

    works = [
        [INIT_WORK(bench.cpu, words.OTHER_WORK + n, f"w{n}", function(n)) for n in range(10)]
        for bench in cpus.all
    ]
    stop = False

    def queue(cpu: Cpu) -> Context:
        rng = random.Random(3)
        while not stop:
            number = rng.randrange(10)
            done = yield from queue_work_on(cpu, 1, cpu.wq.system_wq, works[2][number])
            queued[number] += done
            yield from schedule_timeout_uninterruptible(cpu, 1)

    cpus.task(2, queue(cpus.all[2].cpu))
    for _ in range(5):
        cpus.live(20 * MS)
        assert cpus.down() == 0
        cpus.live(20 * MS)
        assert cpus.up() == 0
    stop = True
    cpus.live(300 * MS)
    assert ran == queued
    assert sum(ran.values()) > 20
    assert {0, 1} <= where
