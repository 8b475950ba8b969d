"""A CPU goes offline and comes back, in virtual time: kernel/cpu.c by era."""

from __future__ import annotations

import random
from collections.abc import Callable
from errno import EBUSY, EINVAL, EIO, ENOSPC, ENXIO, ETIMEDOUT
from typing import Any

import pytest

from nodes.cpu.kernel import timer_shared
from nodes.cpu.kernel.cpuhotplug import cpu_down, cpu_up
from nodes.cpu.kernel.cpuhp_states import DOWN, UP
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
from nodes.cpu.kernel.timer import schedule_timeout
from nodes.cpu.page import CONTEXTS
from nodes.cpu.programs.run import PROGRAMS, Process, program
from orchestrator.ledger import settled
from tests.nodes.cpu.harness import ERAS, MS, SECOND, Box
from tests.nodes.cpu.several import Several

OFFLINE = CONTEXTS.index("offline")
RECORD = 900
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


class Cpus(Several):
    """Bare CPUs that are taken off and on by a task of CPU ``by``."""

    def change(self, number: int, *, up: bool, by: int = 0) -> list[int]:
        """Ask; the list gets the answer."""
        answer: list[int] = []

        def ask(cpu: Cpu) -> Context:
            answer.append((yield from (cpu_up if up else cpu_down)(cpu, number)))

        self.task(by, ask(self.all[by].cpu))
        return answer

    def down(self, number: int = 1, by: int = 0) -> int:
        answer = self.change(number, up=False, by=by)
        self.until(lambda: bool(answer))
        self.live(MS)
        return answer[0]

    def up(self, number: int = 1, by: int = 0) -> int:
        answer = self.change(number, up=True, by=by)
        self.until(lambda: bool(answer))
        self.live(MS)
        return answer[0]

    def run(self, number: int, gen: Context, limit_ns: int = 10 * SECOND) -> None:
        """A task of CPU ``number``, to its end."""
        task = self.task(number, gen)
        self.until(lambda: task.gen is None, limit_ns)

    def halted(self, number: int = 1) -> bool:
        return self.all[number]["context"] == OFFLINE and self.all[number].wake is None


def change(box: Box, number: int, *, up: bool, on: str = "cpu0") -> int:
    """cpu_up or cpu_down asked by a program of CPU ``on``; what it returns."""

    @program("hotplug")
    def hotplug(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
        error = yield from (cpu_up if up else cpu_down)(cpu, number)
        return -error

    try:
        code = box.run("hotplug", cpu=on, ms=300_000).code
        assert code is not None
        return -code
    finally:
        del PROGRAMS["hotplug"]


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


# ---------------------------------------------------------------- everything at once


@pytest.mark.conformance("K8.4-1")
@pytest.mark.parametrize(("era", "seed"), [(era, seed) for era in ERAS for seed in (1, 2)])
def test_no_packet_is_lost_while_cpus_go_off_and_on_under_a_flood(era: str, seed: int) -> None:
    box, rng = Box(era, cpus=3, seed=seed), random.Random(seed)
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
