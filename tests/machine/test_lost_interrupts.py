"""An interrupt controller that dies takes interrupts with it; the driver brings them back."""

from __future__ import annotations

from orchestrator.machines.simulated import SimulatedMachine
from tests.machine.settings import bonded_pair

GUARD_MS = 20_000
SECOND = 1_000_000_000


def test_a_vector_whose_message_was_lost_comes_back_with_the_service_tasks_kick() -> None:
    machine = SimulatedMachine(bonded_pair(), seed=2)
    first = machine.spawn("cpu0", ("ping", "-q", "-c", "2", "-i", "0.1", "192.168.1.1"))
    assert machine.wait(lambda: first.done, GUARD_MS)
    machine.kill("apic")
    lost = machine.spawn("cpu0", ("ping", "-q", "-c", "1", "-W", "1", "192.168.1.1"))
    assert machine.wait(lambda: lost.done, GUARD_MS)
    assert lost.exit_code == 1
    machine.restart("apic")
    machine.pump(machine.now_ns() + 5 * SECOND // 2)  # the service timer runs every 2 s
    again = machine.spawn("cpu0", ("ping", "-q", "-c", "3", "-i", "0.1", "192.168.1.1"))
    assert machine.wait(lambda: again.done, GUARD_MS)
    assert "3 received" in "".join(text for _, text in again.take())
