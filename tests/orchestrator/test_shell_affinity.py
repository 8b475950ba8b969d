"""smp_affinity from the prompt: what bash and the kernel of a real 6.1 said, line by line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orchestrator import verbs
from orchestrator.configuration import config
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive

CAPTURE = (
    Path(__file__).parents[1] / "data/real-linux/e1000e-smp2/affinity/4-writes-refused.txt"
).read_text()
IRQ = "/proc/irq/24"


def boot(era: str) -> SimulatedMachine:
    booted = SimulatedMachine(config.load()._replace(era=era), seed=3)
    job = booted.spawn("cpu0", ("no-such-program",))
    assert booted.wait(lambda: job.done, 10_000)
    return booted


@pytest.fixture(scope="module")
def machine() -> SimulatedMachine:
    return boot("6.1")


def sh(machine: SimulatedMachine, line: str) -> tuple[int, str, str]:
    out: list[str] = []
    err: list[str] = []
    session = Session(machine, out=out.append, err=err.append)
    code = drive(session, verbs.start(session, ["sh", "-c", line]))
    return code, "".join(out), "".join(err)


def refused() -> list[tuple[str, str]]:
    """(command, what bash said) of the capture, for the irq of a NIC."""
    found, lines = [], CAPTURE.splitlines()[1:]
    for line, after in itertools.pairwise(lines):
        command = line.split(" (")[0]
        if command.startswith("echo ") and "irq/0/" not in command:
            found.append((command, after if after.startswith("bash: ") else ""))
    return found


@pytest.mark.parametrize(("command", "said"), refused())
def test_a_write_is_answered_as_a_real_kernel_answered_it(
    machine: SimulatedMachine, command: str, said: str
) -> None:
    code, out, err = sh(machine, command.replace(">smp", f">{IRQ}/smp"))
    assert (code, out, err.strip()) == (int(bool(said)), "", said)


def test_a_line_is_moved_from_the_prompt(machine: SimulatedMachine) -> None:
    assert sh(machine, f"echo 1-1 > {IRQ}/smp_affinity_list; cat {IRQ}/smp_affinity") == (
        0,
        "2\n",
        "",
    )
    machine.pump(machine.now_ns() + 5_000_000_000)  # the driver kicks its queues every 2 s
    shown = sh(machine, f"cat {IRQ}/effective_affinity_list {IRQ}/smp_affinity_list")
    assert shown == (0, "1\n1\n", "")


def test_the_directory_of_an_irq_is_listed(machine: SimulatedMachine) -> None:
    code, out, err = sh(machine, f"ls -1 {IRQ}; ls -1 {IRQ}/eth0-TxRx-0; cat {IRQ}/spurious")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "affinity_hint", "effective_affinity", "effective_affinity_list", "eth0-TxRx-0", "node",
        "smp_affinity", "smp_affinity_list", "spurious", "count 0", "unhandled 0",
        "last_unhandled 0 ms",
    ]  # fmt: skip


def test_2_6_18_has_no_softirqs_and_no_list() -> None:
    old = boot("2.6.18")
    for path in ("/proc/softirqs", "/proc/irq/169/smp_affinity_list"):
        assert sh(old, f"cat {path}") == (1, "", f"cat: {path}: No such file or directory\n")
    code, out, _ = sh(old, "cat /proc/irq/169/smp_affinity")
    assert (code, len(out)) == (0, 8 * 8 + 7 + 1)


def test_stat_has_the_time_of_boot(machine: SimulatedMachine) -> None:
    code, out, _ = sh(machine, "cat /proc/stat")
    assert code == 0
    assert "btime 0\n" in out  # the simulation boots at 1970-01-01
