"""A CPU goes offline and comes back under a flood ping of its own, on real processes."""

from __future__ import annotations

import os
import re
import signal

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import MachineSettings
from orchestrator import ledger
from orchestrator.machines.machine import Job
from orchestrator.machines.processes import ProcessMachine
from tests.machine.settings import bonded_pair
from tests.machine.writing import places_with_writer

GUARD_MS = 60_000
GATEWAY = "192.168.1.1"
PINGS, PACED = 2000, 600
CPU1 = 0b10
SECOND = 1_000_000_000
FLOOD = ("ping", "-q", "-f", "-c")


def online(machine: ProcessMachine, value: int) -> None:
    writer = machine.spawn("cpu0", ("cpu_online", "1", str(value)))
    assert machine.wait(lambda: writer.done, GUARD_MS)
    assert writer.exit_code == 0, writer.failed
    assert machine.ram.page("cpu1", CPU_SCHEMA)["online"] == value


def booted(settings: MachineSettings) -> ProcessMachine:
    machine = ProcessMachine(settings, places_with_writer(settings))
    job = machine.spawn("cpu0", ("no-such-program",))
    assert machine.wait(lambda: job.done, GUARD_MS)
    return machine


def text(job: Job) -> str:
    return "".join(piece for _, piece in job.take())


@pytest.mark.processes
@pytest.mark.parametrize("era", ["2.6.18", "6.1"])  # 3.10 too in virtual time
def test_no_reply_of_a_flood_is_lost_while_its_cpu_goes_and_comes(era: str) -> None:
    settings = bonded_pair(f"goes-{os.getpid()}", era)
    machine = booted(settings)
    try:
        pages = [machine.ram.page(name, CPU_SCHEMA) for name in settings.cpu_names]
        # 2.6.18 lets three packets wait for the gateway's address: it is known before the flood
        first = machine.spawn("cpu0", ("ping", "-q", "-c", "1", GATEWAY))
        assert machine.wait(lambda: first.done, GUARD_MS)
        assert first.exit_code == 0
        paced = machine.spawn("cpu1", (*FLOOD, str(PACED), "-i", "0.003", GATEWAY), CPU1)
        assert machine.wait(lambda: pages[1]["ping_received"] > 100, GUARD_MS)
        online(machine, 0)
        assert paced.cpu == "cpu0"  # it lasts longer than that
        assert pages[0]["ping_received"] >= 100
        online(machine, 1)
        flood = machine.spawn("cpu1", (*FLOOD, str(PINGS), GATEWAY), CPU1)
        assert machine.wait(lambda: pages[1]["ping_received"] > 100, GUARD_MS)
        online(machine, 0)
        online(machine, 1)
        received = 0
        for job, sent in ((paced, PACED), (flood, PINGS)):
            assert machine.wait(lambda job=job: job.done, GUARD_MS)  # type: ignore[misc]
            found = re.search(rf"^{sent} packets transmitted, (\d+) received, 0", text(job), re.M)
            assert found
            # ping waits for the last reply twice the longest round trip; a busy host takes longer
            assert int(found[1]) in (sent - 1, sent)
            received += int(found[1])
        book = ledger.settled(machine)
        assert book.balanced, book.text()
        replies = book.packets["replies"].ends
        late = [name for name in replies if name.endswith(" NO_SOCKET")]
        assert [name for name in replies if name not in ("delivered", *late)] == []
        assert sum(replies.values()) == 1 + PACED + PINGS
        assert received + sum(replies[name] for name in late) == PACED + PINGS
    finally:
        machine.close()


@pytest.mark.processes
def test_ctrl_c_reaches_a_program_that_has_moved() -> None:
    machine = booted(bonded_pair(f"goes-{os.getpid()}"))
    try:
        job = machine.spawn("cpu1", ("sleep", "1000"))
        online(machine, 0)
        assert job.cpu == "cpu0"
        machine.signal(job, signal.SIGINT)
        assert machine.wait(lambda: job.done, GUARD_MS)
        assert job.exit_code == 130
    finally:
        machine.close()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("era", "when"),
    [
        ("6.1", "before"),
        ("3.10", "steps"),
        ("6.1", "masks"),
        ("2.6.18", "masks"),
        ("3.10", "offline"),
    ],
)
def test_a_cpu_that_is_killed_on_its_way_holds_nobody_up(era: str, when: str) -> None:
    """Before its first step; while it still answers; out of the masks; when it is halted."""
    settings = bonded_pair(f"goes-{os.getpid()}", era)
    limit = "2" if when == "offline" else "1"  # nothing is waited for there
    settings = settings._replace(overrides=(("hung_task_timeout_secs", limit),))
    machine = booted(settings)
    try:
        dying = machine.ram.page("cpu1", CPU_SCHEMA)
        flood = machine.spawn("cpu1", ("ping", "-q", "-f", "-c", "1000000", "192.168.1.1"))
        assert machine.wait(lambda: dying["ping_received"] > 50, GUARD_MS)
        pid = machine.state("cpu1").pid
        assert pid is not None
        if when == "before":
            machine.kill("cpu1")
        chcpu = machine.spawn("cpu0", ("chcpu", "-d", "1"))
        if when == "steps":
            machine.wait(lambda: flood.cpu == "cpu0", GUARD_MS)
            os.kill(pid, signal.SIGKILL)
        elif when == "masks":
            machine.pump(machine.now_ns() + 1000)
            while dying["online"]:
                pass  # the next steps take microseconds
            os.kill(pid, signal.SIGKILL)
        elif when == "offline":
            assert machine.wait(lambda: chcpu.done, GUARD_MS)
            os.kill(pid, signal.SIGKILL)
        began = machine.now_ns()
        assert machine.wait(lambda: chcpu.done, GUARD_MS)
        assert machine.now_ns() - began < 15 * SECOND
        said = text(chcpu)
        if when == "offline":
            assert said == "CPU 1 disabled\n"
        elif when == "before":
            assert said == "chcpu: CPU 1 disable failed: Connection timed out\n"
        else:
            assert said in (
                "CPU 1 disabled\n",
                "chcpu: CPU 1 disable failed: Connection timed out\n",
            )
        again = machine.spawn("cpu0", ("ping", "-q", "-c", "3", "-i", "0.01", "-W", "1", GATEWAY))
        assert machine.wait(lambda: again.done, GUARD_MS)
        if not flood.done:
            machine.signal(flood, signal.SIGINT)
            assert machine.wait(lambda: flood.done, GUARD_MS)
        book = ledger.settled(machine)
        assert book.balanced, book.text()
        pids = [state.pid for state in machine.states().values() if state.alive]
    finally:
        machine.close()
    assert len(pids) == 5
    assert [pid for pid in pids if pid is not None and os.path.exists(f"/proc/{pid}")] == []
    assert [name for name in os.listdir("/dev/shm") if settings.name in name] == []
