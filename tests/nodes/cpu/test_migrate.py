"""Programs, sockets and softnet data leave a CPU that goes offline, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from bus.messages import Snapshot
from nodes.cpu.kernel.cpuhotplug import cpu_down, cpu_up
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.net.handover import BACKLOG_RX, skb_of
from nodes.cpu.kernel.net.napi import NAPI_STATE_SCHED, napi_schedule
from nodes.cpu.kernel.net.socket import Socket, SocketError, sock_queue_rcv
from nodes.cpu.kernel.net.softnet_dead import dev_cpu_dead
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Cpu
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE, kthread_run
from nodes.cpu.programs import pingrun as ping_module
from nodes.cpu.programs.migrate import migrate_tasks
from nodes.cpu.programs.run import PROGRAMS, Process, program
from orchestrator import ledger
from orchestrator.machines.machine import Job
from tests.nodes.cpu.harness import ERAS, GATEWAY, SIGINT, Box
from tests.nodes.cpu.test_ping import Replies

SIGQUIT = 3
EBUSY = 16


@pytest.fixture(autouse=True)
def chcpu() -> Any:
    """``chcpu-test up|down N`` on the boot CPU; its exit code is the errno."""

    @program("chcpu-test")
    def main(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
        error = yield from (cpu_up if argv[1] == "up" else cpu_down)(cpu, int(argv[2]))
        return -error

    yield
    del PROGRAMS["chcpu-test"]


def chcpu_run(box: Box, way: str, number: int = 1) -> int:
    code = box.run("chcpu-test", way, str(number), ms=300_000).code
    assert code is not None
    return code


def kernel(box: Box, number: int) -> Cpu:
    node: Any = box.machine.simulation.node(f"cpu{number}")
    cpu: Cpu = node.cpu
    return cpu


def taskset(box: Box, mask: int, *argv: str, cpu: str = "cpu1") -> Job:
    return box.machine.spawn(cpu, argv, mask)


@pytest.mark.parametrize("era", ERAS)
def test_a_ping_goes_on_with_everything_it_had(era: str) -> None:
    box = Box(era)
    job = box.start("ping", "-c", "20", "-i", "0.1", GATEWAY, cpu="cpu1")
    box.live(550)
    before = kernel(box, 1).programs.running[job.number].task
    ran_ns = before.runtime_ns
    assert chcpu_run(box, "down") == 0
    after = kernel(box, 0).programs.running[job.number].task
    assert (after.pid, after.comm, after.nice) == (before.pid, "ping", 0)
    assert after.runtime_ns >= ran_ns > 0
    assert job.cpu == "cpu0"
    assert box.pages["cpu0"]["ping_sent"] == 6
    assert box.pages["cpu1"]["ping_sent"] == box.pages["cpu1"]["ping_running"] == 0
    ran = box.end(job)
    assert [line.split("icmp_seq=")[1].split()[0] for line in ran.lines[1:21]] == [
        str(n) for n in range(1, 21)
    ]
    assert ran.lines[-2].startswith("20 packets transmitted, 20 received, 0% packet loss")
    assert ran.code == 0
    times = box.sent_times("cpu0")
    assert len(times["sent"]) == times["total"] == 20
    gaps = [b - a for a, b in zip(times["sent"], times["sent"][1:], strict=False)]
    assert all(99_000_000 < gap < 101_000_000 for gap in gaps)
    assert ledger.settled(box.machine).faults == []
    with pytest.raises(AssertionError, match="no ping has run on this CPU"):
        box.sent_times("cpu1")


@pytest.mark.parametrize("era", ERAS)
def test_a_flood_loses_no_reply_while_its_cpu_goes_and_comes(era: str) -> None:
    box = Box(era)
    job = box.start("ping", "-q", "-f", "-c", "3000", GATEWAY, cpu="cpu1")
    box.live(20)
    for _ in range(3):
        assert chcpu_run(box, "down") == 0
        assert ledger.settled(box.machine).faults == []
        assert chcpu_run(box, "up") == 0
    ran = box.end(job)
    assert ran.lines[-2].startswith("3000 packets transmitted, 3000 received, 0% packet loss")
    assert ledger.settled(box.machine).faults == []
    assert sum(page.run("delivered")[2] for page in box.pages.values()) == 3000


def test_it_takes_what_came_for_it_before_and_while_it_moved() -> None:
    """Unread replies, a pending signal and the output reach it, in order."""
    box = Box()
    job = box.start("ping", "-c", "1500", "-f", GATEWAY, cpu="cpu1")
    box.live(10)
    down = box.start("chcpu-test", "down", "1")
    while kernel(box, 1).programs.running:
        box.machine.signal(job, SIGQUIT)  # now before, now while, now after the move
        box.live(0.01)
    assert box.end(down).code == 0
    ran = box.end(job)
    assert ran.lines[-2].startswith("1500 packets transmitted, 1500 received, 0% packet loss")
    assert ", 0% loss" in ran.err


@pytest.mark.parametrize("era", ERAS)
def test_ctrl_c_reaches_a_program_that_has_moved(era: str) -> None:
    box = Box(era)
    job = box.start("ping", GATEWAY, cpu="cpu1")
    box.live(2500)
    assert chcpu_run(box, "down") == 0
    ran = box.interrupt(job)
    assert ran.code == 0
    assert " 0% packet loss" in ran.lines[-2]


def test_a_signal_that_was_sent_to_the_old_cpu_goes_after_the_task() -> None:
    box = Box()
    job = box.start("sleep", "100", cpu="cpu1")
    box.live(10)
    assert chcpu_run(box, "down") == 0
    job.cpu = "cpu1"  # the orchestrator has not read of the move yet
    message = box.machine._desk.signal(job, SIGINT)
    box.machine._deliver("cpu1", message)
    job.cpu = "cpu0"
    assert box.end(job, 100).code == 130


@pytest.mark.parametrize("era", ERAS)
def test_sleep_ends_when_it_would_have_ended(era: str) -> None:
    box = Box(era)
    began = box.now_s
    job = box.start("sleep", "2", cpu="cpu1")
    box.live(700)
    assert chcpu_run(box, "down") == 0
    ran = box.end(job)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert box.now_s - began == pytest.approx(2, abs=0.001)


def test_tcpdump_goes_on_and_closes_its_tap() -> None:
    box = Box()
    job = box.start("tcpdump", "-i", "eth0", cpu="cpu1")
    box.live(10)
    assert chcpu_run(box, "down") == 0
    assert [tap.session for tap in kernel(box, 0).net.taps] == [0]
    assert box.interrupt(job).code == 0
    assert kernel(box, 0).net.taps == []
    assert box.said()[-1] == "device eth0 left promiscuous mode"
    assert kernel(box, 0).net.by_name["eth0"].promiscuity == 0


@pytest.mark.parametrize("era", ERAS)
def test_only_who_was_bound_to_the_cpu_is_said_to_be_no_longer_affine(era: str) -> None:
    box = Box(era, cpus=3)
    bound = taskset(box, 0b010, "sleep", "100")
    either = taskset(box, 0b110, "sleep", "100")
    free = box.start("sleep", "100", cpu="cpu1")
    box.live(10)
    pid = kernel(box, 1).programs.running[bound.number].task.pid
    since = box.now_s
    assert chcpu_run(box, "down") == 0
    said = [line for line in box.said(since) if "affine" in line]
    assert said == [f"process {pid} (sleep) no longer affine to cpu1"]
    assert [job.cpu for job in (bound, either, free)] == ["cpu0", "cpu2", "cpu0"]


def test_a_program_may_not_be_started_on_an_offline_cpu() -> None:
    box = Box()
    assert chcpu_run(box, "down") == 0
    ran = box.run("ping", "-c", "1", GATEWAY, cpu="cpu1")
    assert (ran.code, ran.err) == (
        1,
        "taskset: failed to set pid 0's affinity: Invalid argument\n",
    )
    assert chcpu_run(box, "up") == 0
    assert box.ping("-c", "1", cpu="cpu1").code == 0


def test_a_short_program_ends_first_and_a_thread_that_stays_keeps_the_cpu_online() -> None:
    box = Box()
    one = kernel(box, 1)

    def thread(cpu: Cpu) -> Context:
        while not cpu.current.should_stop:
            cpu.current.state = TASK_INTERRUPTIBLE
            yield SCHEDULE

    task = kthread_run(one, "module", thread(one))
    job = box.start("ping", "-c", "50", "-i", "0.1", GATEWAY, cpu="cpu1")
    box.live(100)
    assert chcpu_run(box, "down") == EBUSY
    assert box.pages["cpu1"]["online"] == 1
    assert box.run("sleep", "0.1", cpu="cpu1").code == 0
    task.should_stop = True
    assert chcpu_run(box, "down") == EBUSY  # nobody woke it
    assert box.end(job).lines[-2].startswith("50 packets transmitted, 50 received")


def test_a_module_of_an_offline_cpu_is_removed_when_that_is_back() -> None:
    box = Box()
    assert box.run("insmod", "softirq_order", cpu="cpu1").code == 0
    assert chcpu_run(box, "down") == 0
    ran = box.run("rmmod", "softirq_order")
    assert ran.err == (
        "rmmod: ERROR: could not remove module softirq_order: Device or resource busy\n"
    )
    assert chcpu_run(box, "up") == 0
    assert box.run("rmmod", "softirq_order").code == 0


# ---------------------------------------------------------------- sockets


def on(box: Box, number: int, context: Context) -> None:
    """Run a context as a thread of that CPU, to its end."""
    done: list[bool] = []

    def thread() -> Context:
        yield from context
        done.append(True)

    kthread_run(kernel(box, number), "test", thread())
    box.machine.simulation.send(f"cpu{number}", Snapshot(0, "state"))  # so that it gets a turn
    assert box.machine.wait(lambda: bool(done), 1000)


@pytest.mark.parametrize("era", ERAS)
def test_a_reply_for_a_socket_that_has_moved_is_passed_on_until_all_know(era: str) -> None:
    box = Box(era, cpus=3)
    box.ping("-c", "1")
    polls = max(range(3), key=lambda n: sum(box.pages[f"cpu{n}"].run("rx_polled")[2::3]))
    old = 2 if polls == 1 else 1
    new = 3 - polls - old
    job = box.start("ping", "-q", "-c", "20", "-i", "0.05", GATEWAY, cpu=f"cpu{old}")
    box.live(210)
    on(box, old, migrate_tasks(kernel(box, old), new))
    box.live(1)
    assert job.cpu == f"cpu{new}"
    number = next(iter(kernel(box, new).net.sockets))
    _, *rest = kernel(box, polls).net.raw_sockets[number]
    kernel(box, polls).net.raw_sockets[number] = (old, *rest)  # as before the move
    passed_on = box.pages[f"cpu{old}"].run("handover_out")[2]
    ran = box.end(job)
    assert ran.lines[-2].startswith("20 packets transmitted, 20 received, 0% packet loss")
    assert ledger.settled(box.machine).faults == []
    assert sum(page.run("delivered")[2] for page in box.pages.values()) == 21
    assert box.pages[f"cpu{old}"].run("handover_out")[2] - passed_on == 15
    assert all(kernel(box, n).net.raw_sockets == {} for n in range(3))


def test_what_the_old_owner_queued_meanwhile_follows_and_is_counted_once() -> None:
    """Replies that arrive after the state was packed and before the task is there."""
    box = Box()
    one = kernel(box, 1)
    late: list[int] = []
    true_pack = ping_module.sock_pack

    def pack(sock: Socket) -> Any:
        packed = true_pack(sock)
        dev = one.net.by_name["bond0"]
        frame = replies.frames[-1]
        for _ in range(3):
            skb = skb_of(one, frame, dev.ifindex, one.now())
            assert skb is not None
            sock_queue_rcv(one, sock, skb)
        sock.error_queue.append(SocketError(113, 3, 1, bytes((192, 168, 1, 10)), 1))
        late.append(sock.number)
        return packed

    replies = Replies(box)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ping_module, "sock_pack", pack)
        job = box.start("ping", "-c", "4", "-i", "0.2", GATEWAY, cpu="cpu1")
        box.live(300)
        assert chcpu_run(box, "down") == 0
    assert late
    ran = box.end(job)  # an error settles a request too: the last need not be sent
    assert ran.lines[-2].startswith(
        "3 packets transmitted, 3 received, +3 duplicates, +1 errors, 0% packet loss"
    )
    assert sum(page.run("delivered")[2] for page in box.pages.values()) == 6


# ---------------------------------------------------------------- softnet data


@pytest.mark.parametrize("era", ERAS)
def test_frames_that_wait_for_room_in_a_ring_are_sent_by_the_adopter(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1", cpu="cpu1")
    one = kernel(box, 1)
    slave = one.net.by_name["eth0"]
    slave.queue_stopped = True
    job = box.start("ping", "-q", "-c", "5", "-i", "0.1", GATEWAY, cpu="cpu1")
    box.live(450)
    assert len(slave.qdisc) == 5
    assert ledger.settled(box.machine).packets["requests"].ends["cpu1 waits in a queue"] == 5
    assert chcpu_run(box, "down") == 0
    ran = box.end(job)
    assert ran.lines[-2].startswith("5 packets transmitted, 5 received, 0% packet loss")
    assert ledger.settled(box.machine).faults == []
    assert not slave.qdisc
    assert not slave.queue_stopped


@pytest.mark.parametrize("era", ERAS)
def test_a_queue_that_was_to_be_polled_is_polled_by_the_adopter_since_3_0(era: str) -> None:
    box = Box(era)
    one = kernel(box, 1)
    adapter = one.net.by_name["eth0"].adapter
    assert adapter is not None
    napi = adapter.napi[1]

    def dies(cpu: Cpu) -> Context:
        """What is left of a CPU that was stopped with NET_RX pending."""
        local_irq_disable(cpu)
        napi_schedule(cpu, napi)
        cpu.softirq.pending = 0
        yield from dev_cpu_dead(cpu, 0)
        local_irq_enable(cpu)

    on(box, 1, dies(one))
    box.live(10)
    left = era == "2.6.18"
    assert [n.queue for n in one.net.poll_list] == ([1] if left else [])
    assert one.ram.atomics.load(napi.word) & NAPI_STATE_SCHED == left


def test_the_backlog_of_a_dead_cpu_is_received_by_the_adopter() -> None:
    box = Box()
    replies = Replies(box)
    job = box.start("ping", "-q", "-c", "2", "-i", "0.2", GATEWAY, cpu="cpu0")
    box.live(100)
    one = kernel(box, 1)
    skb = skb_of(one, replies.frames[0], one.net.by_name["bond0"].ifindex, 0)
    assert skb is not None
    skb.protocol, skb.pkt_type = 0x0800, 0

    def dies(cpu: Cpu) -> Context:
        local_irq_disable(cpu)
        cpu.net.backlog.append((BACKLOG_RX, skb, bytes(4)))
        yield from dev_cpu_dead(cpu, 0)
        local_irq_enable(cpu)

    on(box, 1, dies(one))
    assert ", +1 duplicates" in box.end(job).lines[-2]


def test_a_full_ring_wakes_the_cpu_that_filled_it_whoever_polls_its_queue() -> None:
    """A CPU that was away finds the vector of its queue on another CPU."""
    box = Box()
    assert chcpu_run(box, "down") == 0
    assert chcpu_run(box, "up") == 0
    box.ping("-c", "1", cpu="cpu1")
    box.machine.freeze("eth0")
    job = box.start("ping", "-q", "-l", "700", "-c", "700", "-W", "1", GATEWAY, cpu="cpu1")
    box.live(10)
    assert kernel(box, 1).net.by_name["eth0"].queue_stopped
    box.machine.thaw("eth0")
    ran = box.end(job)
    assert ran.lines[-2].startswith("700 packets transmitted, ")
    assert not kernel(box, 1).net.by_name["eth0"].qdisc
    assert ledger.settled(box.machine).faults == []
