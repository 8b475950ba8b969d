"""The microscope: every boundary, forward and back, and that looking changes nothing."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from nodes.cpu.kernel.params import PRESETS
from orchestrator.configuration import config
from orchestrator.labs import eventtable, file, performance, stepping
from orchestrator.labs.microscope import Microscope
from orchestrator.labs.stepping import Stepper
from orchestrator.machines.machine import Machine
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from tools import labs as tool

SEED = 7


@pytest.fixture(scope="module")
def seen() -> tuple[Microscope, file.Lab, int, int]:
    """irq-flow, run once under the microscope."""
    lab = file.load("irq-flow", seed=SEED)
    scope = Microscope()
    machine = SimulatedMachine(lab.scenario.machine, seed=SEED)

    def prepare(ready: Machine) -> None:
        assert ready is machine
        scope.attach(machine)

    shown = performance.perform(machine, lab, SEED, prepare=prepare)
    scope.detach()
    return scope, lab, shown.zero_ns, shown.begin_ns


@pytest.fixture
def stepper(seen: tuple[Microscope, file.Lab, int, int]) -> Stepper:
    return Stepper(*seen)


def ram_after(watched: bool) -> bytes:
    machine = SimulatedMachine(config.load("bond-pair"), seed=3)
    assert wait_until_ready(machine)
    scope = Microscope()
    if watched:
        scope.attach(machine)
    job = machine.spawn("cpu0", ("ping", "-c", "3", "-i", "0.01", "192.168.1.1"))
    machine.wait(lambda: job.done, 1000)
    pages = [bytes(machine.ram.page(name).words) for name in machine.settings.node_names]
    return b"".join(pages) + repr([text for _, text in job.output]).encode()


def test_looking_at_every_boundary_changes_nothing() -> None:
    assert ram_after(watched=True) == ram_after(watched=False)


def test_contexts_are_shown_with_linux_names_from_the_outermost_in(stepper: Stepper) -> None:
    stacks = [" > ".join(m.stack[-1]) for m in stepper.scope.moments]
    way = "__do_softirq > net_rx_action > ixgbe_poll > clean_rx_irq"
    assert any(way in stack for stack in stacks)
    assert any("handle_edge_irq > handle_irq_event" in stack for stack in stacks)


def test_a_step_back_undoes_a_step_forward(stepper: Stepper) -> None:
    here = stepper.screen()
    for _ in range(5):
        assert stepper.press("n")
    assert stepper.screen() != here
    for _ in range(5):
        assert stepper.press("b")
    assert stepper.screen() == here


def test_steps_are_in_the_order_of_time_and_one_boundary_apart(stepper: Stepper) -> None:
    times = [moment.time_ns for moment in stepper.scope.moments]
    assert times == sorted(times)
    busy = [m for m in stepper.scope.moments if m.cpu == "cpu1" and len(m.stack) > 1]
    gaps = {b.time_ns - a.time_ns for a, b in itertools.pairwise(busy)
            if b.time_ns - a.time_ns < 1000}  # fmt: skip
    assert gaps == {250}


def test_c_goes_on_to_the_next_event_and_p_to_the_one_before(stepper: Stepper) -> None:
    stepper.press("c")
    first = stepper.number
    assert stepper.sentence()
    stepper.press("2")
    assert stepper.number > first
    stepper.press("p")
    stepper.press("p")
    assert stepper.number == first


def test_the_ends_hold(stepper: Stepper) -> None:
    stepper.move(-(10**9))
    assert stepper.number == 0
    stepper.screen()
    stepper.move(10**9)
    assert stepper.number == stepper.last
    stepper.screen()
    assert stepper.press("c")
    assert stepper.number == stepper.last
    assert not stepper.press("q")


def test_messages_are_under_way_between_leaving_and_arriving(stepper: Stepper) -> None:
    scope = stepper.scope
    flight = next(f for f in scope._flights if f.text.startswith("MSI 0xfee"))
    assert flight.receiver == "apic"
    assert flight in scope.under_way(flight.left_ns)
    assert flight not in scope.under_way(flight.arrives_ns)
    assert flight not in scope.under_way(flight.left_ns - 1)


def test_a_screen_fits_a_terminal(stepper: Stepper) -> None:
    for number in range(0, stepper.last, max(1, stepper.last // 50)):
        stepper.number = number
        lines = stepper.screen(24)
        assert len(lines) == 24
        assert all(len(line) <= 80 for line in lines)


def test_the_fields_of_preempt_count_by_era() -> None:
    assert eventtable.decoded(0x00110201, PRESETS["6.1"]) == (
        "0x00110201 NMI 1 HARDIRQ 1 SOFTIRQ 0x2 PREEMPT 1"
    )
    assert "NMI 1 HARDIRQ 1" in eventtable.decoded(0x04010000, PRESETS["3.10"])
    assert "NMI 0 HARDIRQ 2" in eventtable.decoded(0x00020000, PRESETS["2.6.18"])


def test_without_a_terminal_so_many_steps_are_printed() -> None:
    code, text = tool.run(("lab", "run", "irq-flow", "--step", "12", "--seed", "7"))
    assert code == 0
    numbers = [int(n) for n in re.findall(r"^ *(\d+) +-?\d+\.\d\d ", text, re.MULTILINE)]
    assert numbers == list(range(numbers[0], numbers[0] + 12))
    _, again = tool.run(
        ("lab", "run", "irq-flow", "--step", "1", "--seed", "7", "--from", str(numbers[3]))
    )
    assert again.splitlines()[2] == next(
        line for line in text.splitlines() if line.lstrip().startswith(f"{numbers[3]} ")
    )


def test_without_a_number_forty_are() -> None:
    code, text = tool.run(("lab", "run", "irq-flow", "--from", "7"))
    assert (code, text.splitlines()[0]) == (2, "bottomhalf: --from is where --step begins")
    _, text = tool.run(("lab", "run", "irq-flow", "--step", "--from", "0"))
    assert len(re.findall(r"^ *\d+ +-?\d+\.\d\d ", text, re.MULTILINE)) == stepping.DEFAULT_STEPS


def test_when_too_much_happens_the_first_steps_are_kept() -> None:
    machine = SimulatedMachine(config.load("bond-pair"), seed=3)
    assert wait_until_ready(machine)
    scope = Microscope(limit=10)
    scope.attach(machine)
    job = machine.spawn("cpu0", ("ping", "-c", "1", "192.168.1.1"))
    machine.wait(lambda: job.done, 1000)
    scope.detach()
    assert scope.overflowed
    assert len(scope.moments) == 10


def _until(fd: int, text: str) -> str:
    """What a terminal was sent, up to a text; an assertion fails if it never comes."""
    seen, give_up = "", time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < give_up, seen
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 65536).decode()
    return seen


@pytest.mark.processes
def test_on_a_terminal_a_key_is_a_step() -> None:
    pid, fd = pty.fork()
    if not pid:  # the child
        os.chdir(Path(__file__).parent.parent.parent)
        command = ("lab", "run", "irq-flow", "--step", "--seed", "7")
        os.execv(sys.executable, [sys.executable, "-m", "orchestrator.cli", *command])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    first = _until(fd, "q quit")
    number = int(re.findall(r"step (\d+) of", first)[-1])
    os.write(fd, b"n")
    assert f"step {number + 1} of" in _until(fd, "q quit")
    os.write(fd, b"b")
    assert f"step {number} of" in _until(fd, "q quit")
    os.write(fd, b"q")
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert status == 0
