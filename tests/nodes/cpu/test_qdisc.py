"""Transmit queues: pfifo_fast's bands and limits, NET_TX's list, byte limits, the watchdog."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.drivers.ixgbe.adapter import TX_STOPPED, Ring
from nodes.cpu.kernel.net import dql, xmit
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.qdisc import TX_QUEUE_LEN, netif_schedule
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.xmit import (
    NET_XMIT_CN,
    NET_XMIT_DROP,
    NET_XMIT_SUCCESS,
    dev_queue_xmit,
)
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import kthread_run
from orchestrator import ledger
from tests.nodes.cpu.harness import ERAS, GATEWAY, BareCpu, Box
from tests.nodes.cpu.wire import Wire


def kernel(box: Box, number: int = 0) -> Cpu:
    node: Any = box.machine.simulation.node(f"cpu{number}")
    cpu: Cpu = node.cpu
    return cpu


def dev_of(box: Box, name: str) -> NetDevice:
    return kernel(box).net.by_name[name]


def frame(number: int, size: int = 60) -> bytes:
    """A frame with a number in it."""
    return (
        bytes.fromhex("020000000001 001b21000001 88b5") + bytes((number & 0xFF,)) + bytes(size - 15)
    )


def send(box: Box, name: str, *priorities: int, size: int = 60) -> list[int]:
    """Frames through a device, from a thread of cpu0; what dev_queue_xmit returned."""
    cpu, dev, codes = kernel(box), dev_of(box, name), []

    def thread() -> Context:
        for number, priority in enumerate(priorities):
            skb = SkBuff(frame(number, size), dev, 0, 0)
            skb.priority = priority
            codes.append((yield from dev_queue_xmit(cpu, skb, dev)))

    kthread_run(cpu, "sends", thread())
    while len(codes) < len(priorities):
        box.run("sleep", "0.001")
    return codes


def stop(box: Box, name: str = "eth0") -> None:
    dev_of(box, name).queue_stopped = True


def wake(box: Box, name: str = "eth0") -> None:
    cpu, dev = kernel(box), dev_of(box, name)

    def thread() -> Context:
        dev.queue_stopped = False
        netif_schedule(cpu, dev)
        yield

    kthread_run(cpu, "wakes", thread())
    box.run("sleep", "0.01")


# ---------------------------------------------------------------- pfifo_fast


@pytest.mark.conformance("N1.7")
def test_priorities_order_what_waits_on_a_port_but_not_what_a_bond_sent() -> None:
    box = Box("2.6.18", primary="eth0")
    wire = Wire(box)
    stop(box)
    send(box, "eth0", 0, 7, 1)
    wake(box)
    assert [f[14] for f in wire.sent] == [1, 0, 2]
    wire.sent.clear()
    stop(box)
    send(box, "bond0", 0, 7, 1)
    assert [len(band) for band in dev_of(box, "eth0").qdisc.bands] == [0, 0, 3]
    wake(box)
    assert [f[14] for f in wire.sent] == [0, 1, 2]


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_later_bonds_keep_the_priority(era: str) -> None:
    box = Box(era, primary="eth0")
    stop(box)
    send(box, "bond0", 0, 7, 1)
    assert [len(band) for band in dev_of(box, "eth0").qdisc.bands] == [1, 1, 1]


@pytest.mark.parametrize(("era", "fits"), [("2.6.18", 1000), ("3.10", 999), ("6.1", 1000)])
def test_the_limit_is_each_bands_or_that_of_all(era: str, fits: int) -> None:
    box = Box(era)
    stop(box)
    codes = send(box, "eth0", 7, *[0] * (TX_QUEUE_LEN + 5))
    assert codes.count(NET_XMIT_SUCCESS) == fits + 1
    assert codes[-1] == NET_XMIT_DROP
    dropped = TX_QUEUE_LEN + 5 - fits
    assert box.drops()[("eth0", "QDISC_DROP")] == [dropped, 0, 0]
    row = box.pages["cpu0"].run("qdisc")[6:12]
    assert row[2:6] == [dropped, 0, 60 * (fits + 1), fits + 1]


@pytest.mark.parametrize(
    ("era", "code"),
    [("2.6.18", NET_XMIT_SUCCESS), ("3.10", NET_XMIT_SUCCESS), ("6.1", NET_XMIT_DROP)],
)
def test_what_a_bond_says_when_its_slave_has_no_room(era: str, code: int) -> None:
    box = Box(era, primary="eth0")
    stop(box)
    assert send(box, "bond0", *[1] * (TX_QUEUE_LEN + 1))[-1] == code


def test_without_carrier_noop_takes_frames_and_says_congestion() -> None:
    box = Box(primary="eth0")
    box.cable("eth1", inserted=False)
    box.live(200)
    assert send(box, "eth1", 0) == [NET_XMIT_CN]
    assert box.drops()[("eth1", "QDISC_DROP")] == [1, 0, 0]


@pytest.mark.parametrize(("era", "first"), [("2.6.18", "eth1"), ("3.10", "eth0"), ("6.1", "eth0")])
def test_net_tx_takes_the_last_or_the_first_device_first(era: str, first: str) -> None:
    box = Box(era)
    cpu = kernel(box)
    order: list[str] = []

    def thread() -> Context:
        for name in ("eth0", "eth1"):
            netif_schedule(cpu, dev_of(box, name))
        order.extend(dev.name for dev in cpu.net.output_queue)
        yield

    kthread_run(cpu, "test", thread())
    box.run("sleep", "0.001")
    assert order[0] == first
    assert not cpu.net.output_queue


@pytest.mark.conformance("N1.11")
@pytest.mark.parametrize("era", ERAS)
def test_a_device_scheduled_twice_runs_once(era: str, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(era)
    cpu, dev = kernel(box), dev_of(box, "eth0")
    stop(box)
    send(box, "eth0", 0)
    runs: list[str] = []
    real = xmit.qdisc_run

    def counted(cpu: Cpu, dev: NetDevice) -> Context:
        runs.append(dev.name)
        return real(cpu, dev)

    monkeypatch.setattr("nodes.cpu.kernel.net.napi.qdisc_run", counted)

    def thread() -> Context:
        dev.queue_stopped = False
        netif_schedule(cpu, dev)
        netif_schedule(cpu, dev)
        yield

    kthread_run(cpu, "test", thread())
    box.run("sleep", "0.001")
    assert runs == ["eth0"]
    assert not dev.qdisc.scheduled


@pytest.mark.parametrize(("era", "passes"), [("2.6.18", 1), ("3.10", 4), ("6.1", 4)])
def test_a_long_queue_is_sent_in_portions_of_64_since_quota(era: str, passes: int) -> None:
    box = Box(era, overrides=(("bql", "none"),))
    stop(box)
    send(box, "eth0", *[0] * 200)
    before = box.pages["cpu0"].run("softirqs")[2]
    wake(box)
    assert not dev_of(box, "eth0").qdisc.qlen
    assert box.pages["cpu0"].run("softirqs")[2] - before == passes


# ---------------------------------------------------------------- byte queue limits


class Queue:
    """A queue's byte limit on a bare CPU."""

    def __init__(self) -> None:
        self.bench = BareCpu(nics=1)
        self.cpu = self.bench.cpu
        self.state = Ring(self.cpu, 0, 0).state
        dql.dql_init(self.cpu, self.state)

    def __getitem__(self, word: int) -> int:
        value: int = self.cpu.ram.words64[self.state + word]
        return value

    def sent(self, size: int) -> int:
        """Queue bytes; how many more may come (below 0: stopped)."""
        words = self.cpu.ram.words64
        words[self.state + dql.NUM_QUEUED] += size
        words[self.state + dql.LAST_OBJ] = size
        return self[dql.ADJ_LIMIT] - self[dql.NUM_QUEUED]

    def completed(self, size: int) -> int:
        dql.dql_completed(self.cpu, self.state, size)
        return self[dql.LIMIT]


@pytest.mark.conformance("N1.12")
@pytest.mark.parametrize("size", [60, 98, 1514])
def test_the_byte_limit_of_a_fresh_queue_grows_by_what_starved(size: int) -> None:
    queue = Queue()
    assert queue.sent(size) == -size  # accepted, and the queue is stopped
    assert queue.completed(size) == size
    assert queue.sent(size) == 0
    assert queue.sent(size) == -size
    assert queue.completed(2 * size) == 3 * size


def test_a_limit_that_was_not_needed_for_a_second_shrinks() -> None:
    queue = Queue()
    words = queue.cpu.ram.words64
    words[queue.state + dql.LIMIT] = words[queue.state + dql.ADJ_LIMIT] = 10_000
    queue.sent(500)
    queue.sent(500)
    for _ in range(3):
        queue.completed(100)
        queue.sent(100)
        queue.bench.ns += 600_000_000
    queue.completed(100)
    assert 0 < queue[dql.LIMIT] < 10_000


@pytest.mark.conformance("N1.12")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_second_frame_waits_until_the_first_was_sent(era: str) -> None:
    box = Box(era, primary="eth0")
    box.live(3000)
    cpu, dev = kernel(box), dev_of(box, "eth0")
    assert dev.adapter is not None
    dql.dql_reset(cpu, dev.adapter.rings[0].state)
    box.machine.freeze("eth0")
    send(box, "eth0", 0, 0, 0)
    assert dev.queue_stopped
    assert dev.qdisc.qlen == 2
    path = "/sys/class/net/eth0/queues/tx-0/byte_queue_limits/"
    assert [box.proc(path + name) for name in ("limit", "inflight")] == ["0\n", "60\n"]
    box.machine.thaw("eth0")
    box.live(100)
    assert not dev.qdisc.qlen
    assert box.proc(path + "inflight") == "0\n"
    assert int(box.proc(path + "limit")) > 0
    assert box.ping("-c", "1").code == 0


def test_2_6_18_knows_no_byte_limits() -> None:
    box = Box("2.6.18", primary="eth0")
    box.machine.freeze("eth0")
    send(box, "eth0", *[0] * 50)
    assert not dev_of(box, "eth0").qdisc.qlen


# ---------------------------------------------------------------- the watchdog


TEXTS = {
    "2.6.18": "NETDEV WATCHDOG: eth0: transmit timed out",
    "3.10": "NETDEV WATCHDOG: eth0 (ixgbe): transmit queue 0 timed out",
    "6.1": "NETDEV WATCHDOG: eth0 (ixgbe): transmit queue 0 timed out",
}


def stop_for_good(box: Box) -> None:
    """The state of a queue that waits for completions: as the driver leaves it."""
    cpu, dev = kernel(box), dev_of(box, "eth0")
    assert dev.adapter is not None
    words, state = cpu.ram.words64, dev.adapter.rings[0].state
    words[state + TX_STOPPED] = 1
    words[state + dql.TRANS_START] = cpu.jiffies()
    dev.queue_stopped = True


@pytest.mark.parametrize("era", ERAS)
def test_a_queue_that_stays_stopped_with_carrier_is_reported_and_reset(era: str) -> None:
    box = Box(era, primary="eth0")
    box.live(300)
    stop_for_good(box)
    since = box.now_s
    box.live(10_500)
    assert TEXTS[era] in "\n".join(box.said(since))
    assert 5 <= box.when("NETDEV WATCHDOG", since) - since <= 10.3
    said = "ixgbe 0000:01:00.0 eth0: initiating reset due to tx timeout" in box.said(since)
    assert said is (era != "2.6.18")
    assert any("Reset adapter" in line for line in box.said(since))
    box.live(3000)
    assert not dev_of(box, "eth0").queue_stopped
    assert box.ping("-c", "1").code == 0


def test_the_warning_comes_once_a_boot() -> None:
    box = Box("6.1", primary="eth0")
    for _ in range(2):
        stop_for_good(box)
        box.live(15_000)
    assert len([line for line in box.said() if "NETDEV WATCHDOG" in line]) == 1
    assert len([line for line in box.said() if "due to tx timeout" in line]) == 2


@pytest.mark.conformance("N1.13")
@pytest.mark.parametrize("era", ERAS)
def test_without_carrier_the_watchdog_is_silent_and_the_driver_resets(era: str) -> None:
    box = Box(era, primary="eth0")
    box.ping("-c", "1")
    box.machine.freeze("eth0")
    job = box.start("ping", "-q", "-f", "-l", "700", "-c", "700", "-W", "1", GATEWAY)
    box.live(100)
    assert dev_of(box, "eth0").queue_stopped
    since = box.now_s
    request = box.machine.cable("eth0", False)
    box.machine.thaw("eth0")
    assert box.machine.wait(lambda: request.done, 1000)
    box.end(job)
    box.live(12_000)
    log = box.said(since)
    assert not any("NETDEV WATCHDOG" in line for line in log)
    assert not dev_of(box, "eth0").queue_stopped


# ---------------------------------------------------------------- a device that goes


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_what_waited_for_a_removed_device_is_counted_as_dropped_by_its_queue(era: str) -> None:
    box = Box(era, primary="eth0")
    box.ping("-c", "1")
    box.live(100)
    stop(box)
    job = box.start("ping", "-q", "-c", "5", "-i", "0.01", "-W", "0.1", GATEWAY)
    box.live(80)
    assert dev_of(box, "eth0").qdisc.qlen == 5
    assert box.run("write", "/sys/bus/pci/devices/0000:01:00.0/remove", "1").code == 0
    box.end(job)
    assert box.drops()[("eth0", "QDISC_DROP")] == [0, 5, 0]
    assert ledger.settled(box.machine).faults == []
