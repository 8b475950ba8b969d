"""Interrupts spread over CPUs: replies that land elsewhere, pings from any CPU, many at once."""

from __future__ import annotations

import pytest

from bus.messages import IcrWrite
from nodes.cpu.page import ARCH_IRQS
from nodes.machine import GATEWAY_ADDRESSES
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box

RES = ARCH_IRQS.index("RES")
RESCHEDULE = 0xFD
ADDRESSES = GATEWAY_ADDRESSES


def replies(box: Box) -> list[int]:
    """Echo replies that each CPU took from a ring."""
    return [page.run("rx_polled")[2] for page in box.pages.values()]


def res(box: Box) -> list[int]:
    return [page.run("arch_irqs")[RES] for page in box.pages.values()]


def landing(box: Box) -> dict[str, int]:
    """Which CPU gets the replies of each of the gateway's addresses."""
    found = {}
    for address in ADDRESSES:
        before = replies(box)
        box.ping("-c", "1", to=address)
        found[address] = next(n for n, count in enumerate(replies(box)) if count > before[n])
    return found


@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
def test_the_gateways_addresses_reach_every_queue(era: str) -> None:
    assert sorted(set(landing(Box(era, cpus=4)).values())) == [0, 1, 2, 3]


def test_a_drawn_key_reaches_several_queues() -> None:
    hit = [len(set(landing(Box(cpus=4, seed=seed)).values())) for seed in range(6)]
    assert max(hit) == 4
    assert min(hit) >= 2


@pytest.mark.parametrize("era", ERAS)
def test_a_reply_on_another_cpu_wakes_the_ping_by_a_reschedule_ipi(era: str) -> None:
    box = Box(era, cpus=4)
    where = landing(box)
    far = next(address for address, cpu in where.items() if cpu != 0)
    sent: list[tuple[str, int]] = []

    def watch(_now: int, sender: str, _receiver: str, message: object) -> None:
        if isinstance(message, IcrWrite) and message.icr & 0xFF == RESCHEDULE:
            sent.append((sender, message.icr))

    box.live(20)
    before, wakeups = res(box), box.total("wakeups_remote")
    box.machine.simulation.watch = watch
    assert box.ping("-c", "5", "-i", "0.1", to=far).code == 0
    box.machine.simulation.watch = None
    assert [b - a for a, b in zip(before, res(box), strict=True)] == [5, 0, 0, 0]
    # The message carries a vector and a destination (CPU 0), nothing else.
    assert sent == [(f"cpu{where[far]}", 1 << 14 | RESCHEDULE)] * 5
    assert box.total("wakeups_remote") - wakeups == 5
    out = [
        sum(column)
        for column in zip(*(p.run("handover_out") for p in box.pages.values()), strict=True)
    ]
    taken = [
        sum(column)
        for column in zip(*(p.run("handover_in") for p in box.pages.values()), strict=True)
    ]
    assert out == taken
    assert out[2] >= 5


@pytest.mark.parametrize("era", ERAS)
def test_a_reply_on_the_same_cpu_needs_no_ipi(era: str) -> None:
    box = Box(era, cpus=2)
    where = landing(box)
    for cpu in set(where.values()):
        near = next(address for address, landed in where.items() if landed == cpu)
        box.ping("-c", "1", to=near, cpu=f"cpu{cpu}")
        box.live(50)  # its exit wants a grace period, and the thread that makes it lives on cpu0
        before = res(box)
        assert box.ping("-c", "4", "-i", "0.1", to=near, cpu=f"cpu{cpu}").code == 0
        assert res(box) == before


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("cpu", ["cpu0", "cpu1", "cpu3"])
def test_ping_runs_on_the_cpu_it_was_started_on(era: str, cpu: str) -> None:
    box = Box(era, cpus=4)
    ran = box.ping("-c", "5", "-i", "0.05", cpu=cpu)
    assert ran.lines[-2].startswith("5 packets transmitted, 5 received, 0% packet loss")
    number = int(cpu[-1])
    for n, page in enumerate(box.pages.values()):
        assert page.run("icmp_sent")[1] == (5 if n == number else 0)


@pytest.mark.parametrize("era", ERAS)
def test_every_cpu_sends_on_its_own_queue(era: str) -> None:
    box = Box(era, cpus=4)
    for cpu in box.pages:
        box.ping("-c", "1", cpu=cpu)
    before = [page.run("tx_posted")[1] for page in box.pages.values()]
    for cpu in box.pages:
        box.ping("-c", "3", "-i", "0.01", cpu=cpu)
    after = [page.run("tx_posted")[1] for page in box.pages.values()]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 3, 3, 3]


@pytest.mark.parametrize("era", ERAS)
def test_many_pings_at_once_on_all_cpus(era: str) -> None:
    box = Box(era, cpus=4)
    jobs = [
        box.start("ping", "-c", "20", "-i", "0.02", "-q", ADDRESSES[n % 8], cpu=f"cpu{n % 4}")
        for n in range(24)
    ]
    for job in jobs:
        ran = box.end(job)
        assert ran.lines[-2].startswith("20 packets transmitted, 20 received, 0% packet loss")
    assert box.machine.ram.atomics.load(64) == 0
    delivered = sum(page.run("delivered")[2] for page in box.pages.values())
    assert delivered == sum(page.run("icmp_sent")[1] for page in box.pages.values()) == 480


def test_a_flood_from_several_cpus_loses_nothing() -> None:
    box = Box(cpus=2)
    box.ping("-c", "1")
    box.ping("-c", "1", cpu="cpu1")
    jobs = [box.start("ping", "-f", "-q", "-c", "300", GATEWAY, cpu=cpu) for cpu in box.pages]
    for job in jobs:
        assert "300 received, 0% packet loss" in box.end(job).lines[-2]


@pytest.mark.parametrize("cpus", [1, 9])
def test_one_cpu_and_more_than_flat_logical_mode_reaches(cpus: int) -> None:
    box = Box(cpus=cpus)
    assert box.ping("-c", "3", "-i", "0.1", cpu=f"cpu{cpus - 1}").code == 0
    for address in ADDRESSES:
        assert box.ping("-c", "1", to=address).code == 0


@pytest.mark.parametrize("era", ERAS)
def test_an_idle_machine_takes_few_turns(era: str) -> None:
    box = Box(era)
    box.ping("-c", "3", "-i", "0.1")
    box.live(3000)
    turns = sum(page["turns"] for page in box.pages.values())
    other = box.pages["cpu1"]["boundaries"]
    box.live(10_000)
    spent = sum(page["turns"] for page in box.pages.values()) - turns
    # 100 looks of the MII monitor and five service tasks of two NICs, with their register reads.
    assert spent < 1200
    assert box.pages["cpu1"]["boundaries"] - other < 400
