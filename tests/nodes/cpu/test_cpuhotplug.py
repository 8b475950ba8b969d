"""A CPU goes offline and comes back, in virtual time."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.cpuhotplug import cpu_down, cpu_up
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.page import CONTEXTS
from nodes.cpu.programs.run import PROGRAMS, Process, program
from tests.nodes.cpu.harness import ERAS, Box

OFFLINE = CONTEXTS.index("offline")


def ask(box: Box, up: bool, number: int, on: str = "cpu0") -> int:
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


@pytest.mark.parametrize("era", ERAS)
def test_an_idle_cpu_goes_down_and_comes_back(era: str) -> None:
    box = Box(era)
    since = box.now_s
    assert ask(box, False, 1) == 0
    assert box.pages["cpu1"]["online"] == 0
    assert box.pages["cpu1"]["context"] == OFFLINE
    assert box.kernel()["online"] == [0]
    box.live(1000)
    before = box.pages["cpu1"]["boundaries"]
    assert box.ping("-c", "3", "-i", "0.1").code == 0
    assert box.pages["cpu1"]["boundaries"] == before
    assert ask(box, True, 1) == 0
    assert box.pages["cpu1"]["online"] == 1
    assert box.kernel()["online"] == [0, 1]
    assert box.ping("-c", "3", "-i", "0.1", cpu="cpu1").code == 0
    print(box.said(since))
