"""A port that goes down with frames in its receive ring: they end there, by name."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel import words
from nodes.cpu.kernel.net.napi import NAPI_STATE_SCHED, Napi, napi_disable
from nodes.cpu.kernel.percpu import Context
from orchestrator.ledger import settled
from tests.nodes.cpu.harness import ERAS, MS, SIGINT, BareCpu, Box

SLAVES = "/sys/class/net/bond0/bonding/slaves"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "command", [("write", SLAVES, "-eth0"), ("ip", "link", "set", "eth0", "down")]
)
def test_frames_that_nobody_polled_are_dropped_by_the_reset_of_the_ring(
    era: str, command: tuple[str, ...]
) -> None:
    """The NIC wrote a frame and its interrupt is held (moderation) or masked when the driver closes
    the port: the ring is thrown away with the frame in it."""
    box = Box(era)
    job = box.machine.spawn("lan", ("ping", "-q", "-i", "0.002", "192.168.1.10"))
    box.live(50)
    assert box.run(*command).code == 0
    box.live(20)
    box.machine.signal(job, SIGINT)
    assert box.machine.wait(lambda: job.done, 20_000)
    ledger = settled(box.machine)
    assert ledger.balanced, ledger.text()
    ends = ledger.as_json()["packets"]["requests"]["ends"]
    assert sum(count for end, count in ends.items() if "RX_RING_RESET" in end) == 1, ends


@pytest.mark.parametrize(("polls_for_ms", "waited_ms"), [(0, 0), (3, 3), (10_000, 100)])
def test_a_poll_that_is_going_on_is_waited_for_but_not_for_ever(
    polls_for_ms: int, waited_ms: int
) -> None:
    bare = BareCpu()
    napi = Napi(words.NAPI, 2, 0, lambda *_: iter(()))
    ended: list[int] = []

    def task() -> Context:
        yield from napi_disable(bare.cpu, napi)
        ended.append(bare.ns)

    bare.ram.atomics.store(napi.word, NAPI_STATE_SCHED if polls_for_ms else 0)
    began = bare.ns
    bare.task(task())
    bare.run_for(polls_for_ms * MS)
    bare.ram.atomics.store(napi.word, 0)
    bare.run_for(10 * MS)
    assert (ended[0] - began) / MS == pytest.approx(waited_ms, rel=0.1, abs=0.1)
