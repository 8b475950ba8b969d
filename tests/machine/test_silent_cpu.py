"""What a killed or frozen CPU does to the others: they notice by themselves, as their era does.

Nobody tells the kernel. A CPU that dies in the middle of something holds up the next grace period
of RCU; one that dies idle is missed only when somebody sends it something and it does not answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu, Pause
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.timer import nanosleep
from nodes.cpu.page import CPU_SCHEMA
from orchestrator.machines import kernellog
from orchestrator.machines.local import LocalMachine
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.simulated import SimulatedMachine
from tests.machine.settings import bonded_pair

MS = 1_000_000
GUARD_MS = 60_000
GATEWAY = "192.168.1.1"
#: The kernel's own parameters, as short as they may be.
SHORT = (("rcu_cpu_stall_timeout", "3"), ("csd_lock_timeout", "200"), ("watchdog_thresh", "1"))
#: Socket made and closed: two records for each other CPU, and the ring holds 64.
PINGS_UNTIL_FULL = 40

both = pytest.mark.parametrize(
    "runtime", ["simulation", pytest.param("processes", marks=pytest.mark.processes)]
)


@contextmanager
def running(runtime: str, era: str = "6.1", cpus: int = 2) -> Iterator[LocalMachine]:
    """A machine of which CPU 1 is about to fall silent."""
    name = f"silent-{os.getpid()}" if runtime == "processes" else "m1"
    settings = bonded_pair(name, era, cpus)._replace(overrides=SHORT)
    if runtime == "simulation":
        machine = SimulatedMachine(settings, seed=4)
    else:
        machine = ProcessMachine(settings)
    try:
        job = machine.spawn("cpu0", ("no-such-program",))
        assert machine.wait(lambda: job.done, GUARD_MS)
        yield machine
    finally:
        machine.close()


def dmesg(machine: LocalMachine, part: str) -> list[str]:
    return [line.text for line in kernellog.lines(machine.ram) if part in line.text]


def is_idle(machine: LocalMachine, number: int) -> bool:
    """Whether this CPU's last word to RCU was that it is idle."""
    return machine.ram.page(f"cpu{number}", CPU_SCHEMA)["rcu_dynticks"] % 2 == 0


def occupy(machine: LocalMachine) -> None:
    """Give cpu1 something to be in the middle of."""
    if isinstance(machine, SimulatedMachine):
        cpu = machine.simulation.node("cpu1").cpu  # type: ignore[attr-defined]
        kthread_run(cpu, "busy", busy(cpu))
        program_ends(machine, "cpu1")  # it looks at its run queue
    else:
        machine.spawn("cpu1", ("ping", "-q", "-f", GATEWAY))


def busy(cpu: Cpu) -> Context:
    """5 ms in the kernel, 1 ms asleep."""
    while True:
        end = cpu.now() + 5 * MS
        while cpu.now() < end:
            yield Pause(end)
        yield from nanosleep(cpu, MS)


def catch(machine: LocalMachine, *, idle: bool) -> None:
    """Freeze cpu1 when it is idle, or when it is not."""
    if not idle:
        occupy(machine)
    for _ in range(1000):
        machine.pump(machine.now_ns() + MS + 137_000)
        machine.wait(lambda: is_idle(machine, 1) == idle, 20)  # in virtual time: exactly then
        machine.freeze("cpu1")
        machine.pump(machine.now_ns() + MS)
        if is_idle(machine, 1) == idle:
            return
        machine.thaw("cpu1")
    raise AssertionError("cpu1 was never caught")


def program_ends(machine: LocalMachine, cpu: str = "cpu0") -> None:
    """A program's exit queues an RCU callback."""
    job = machine.spawn(cpu, ("no-such-program",))
    assert machine.wait(lambda: job.done, GUARD_MS)


def silence(machine: LocalMachine, how: str) -> None:
    if how == "kill":
        machine.kill("cpu1")


@both
@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_cpu_caught_in_the_middle_of_something_is_reported_by_rcu(runtime: str, how: str) -> None:
    with running(runtime) as machine:
        catch(machine, idle=False)
        silence(machine, how)
        program_ends(machine)
        stalls = "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"
        assert machine.wait(lambda: dmesg(machine, stalls) != [], GUARD_MS)
        assert machine.wait(lambda: dmesg(machine, "(detected by 0, t=") != [], GUARD_MS)
        assert dmesg(machine, "rcu: \t1-...0: (")
        if how == "freeze":
            machine.thaw("cpu1")
            boot = machine.ram.page("cpu0", CPU_SCHEMA)
            assert machine.wait(lambda: boot["rcu_gp_seq"] % 4 == 0, GUARD_MS)


@both
@pytest.mark.parametrize(
    ("era", "text"),
    [("3.10", "INFO: rcu_sched detected stalls on CPUs/tasks: { 1} (detected by "), ("2.6.18", "")],
)
def test_the_older_eras_say_it_in_their_words_or_not_at_all(
    runtime: str, era: str, text: str
) -> None:
    with running(runtime, era) as machine:
        catch(machine, idle=False)
        machine.kill("cpu1")
        program_ends(machine)
        if text:
            assert machine.wait(lambda: dmesg(machine, text) != [], GUARD_MS)
            return
        boot = machine.ram.page("cpu0", CPU_SCHEMA)
        assert machine.wait(lambda: boot["rcu_gp_seq"] % 4 == 1, GUARD_MS)
        assert not machine.wait(lambda: dmesg(machine, "rcu") != [], 4000)


@pytest.mark.parametrize("runtime", [pytest.param("processes", marks=pytest.mark.processes)])
@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_cpu_that_fell_silent_while_idle_is_missed_when_it_does_not_answer(
    runtime: str, how: str
) -> None:
    with running(runtime) as machine:
        catch(machine, idle=True)
        silence(machine, how)
        program_ends(machine)
        boot = machine.ram.page("cpu0", CPU_SCHEMA)
        ended = boot["rcu_gp_seq"]
        assert machine.wait(lambda: boot["rcu_gp_seq"] > ended, GUARD_MS)
        assert machine.wait(lambda: boot["rcu_gp_seq"] % 4 == 0, GUARD_MS)
        assert dmesg(machine, "stall") == []
        reported = "csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 2"
        for _ in range(PINGS_UNTIL_FULL):
            job = machine.spawn("cpu0", ("ping", "-q", "-c", "1", "-W", "0.01", GATEWAY))
            assert machine.wait(lambda job=job: job.done or dmesg(machine, reported), GUARD_MS)
            if dmesg(machine, reported):
                break
        assert dmesg(machine, reported)
        assert dmesg(machine, "csd: Re-sending CSD lock (#1) IPI from CPU#00 to CPU#01")
        assert machine.wait(lambda: dmesg(machine, "soft lockup - CPU#0 stuck for") != [], GUARD_MS)
        assert not job.done
        if how == "freeze":
            machine.thaw("cpu1")
            assert machine.wait(lambda: job.done, GUARD_MS)
            assert dmesg(machine, "csd: CSD lock (#1) got unstuck on CPU#00, CPU#01 released")
            program_ends(machine)


@pytest.mark.processes
def test_a_frozen_cpu_works_off_what_was_queued_for_it() -> None:
    with running("processes", cpus=3) as machine:
        catch(machine, idle=True)
        queued = machine.ram.csd_ring(0, 1)
        for _ in range(3):
            job = machine.spawn("cpu0", ("ping", "-q", "-c", "1", "-W", "0.01", GATEWAY))
            assert machine.wait(lambda job=job: job.done, GUARD_MS)
        assert len(queued) >= 6
        machine.thaw("cpu1")
        assert machine.wait(lambda: len(queued) == 0, GUARD_MS)
        assert machine.wait(lambda: machine.ram.handover(0).in_use() == 0, GUARD_MS)
