"""A machine in the simulation: the same interface over virtual time, in this process.

The same seed gives the same run byte for byte. What takes time in a machine of processes takes none
here unless a table says so: ``LATENCY_NS`` is what a message takes on each kind of link, the bus's
``STEP_NS`` what an instruction boundary of a CPU takes. pids do not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bus.simulation import Place, Simulation
from nodes.machine import APIC, LAN, MachineSettings
from orchestrator.errors import BottomhalfError
from orchestrator.machines import places as known_places
from orchestrator.machines.local import LocalMachine
from orchestrator.machines.machine import NodeState

SIGKILL = 9
CPU, NIC = "cpu", "nic"

#: One way, in ns, by (kind of sender, kind of receiver).
LATENCY_NS: Mapping[tuple[str, str], int] = {
    (CPU, NIC): 300,  # posted write or read request through the root complex
    (NIC, CPU): 300,  # completion
    (NIC, APIC): 250,  # MSI: a posted write upstream
    (APIC, NIC): 300,
    (APIC, CPU): 100,  # interrupt message
    (CPU, APIC): 100,  # ICR write
    (NIC, LAN): 500,  # serialisation of a small frame at 10 Gbit/s and some metres of fibre
    (LAN, NIC): 500,
}


def link_latency(settings: MachineSettings) -> Callable[[str, str], int]:
    """The latency function of a machine's links."""
    kinds = {
        **dict.fromkeys(settings.cpu_names, CPU),
        **dict.fromkeys(settings.nic_names, NIC),
        APIC: APIC,
        LAN: LAN,
    }

    def latency(sender: str, receiver: str) -> int:
        return LATENCY_NS[kinds[sender], kinds[receiver]]

    return latency


class SimulatedMachine(LocalMachine):
    """All nodes of ``settings`` over a virtual clock; arguments as in ``ProcessMachine``."""

    runtime = "simulation"

    def __init__(
        self,
        settings: MachineSettings,
        places: Mapping[str, Place] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(settings, places)
        if settings.lan.uplink == "tap":
            raise BottomhalfError(
                "a TAP uplink needs a machine of processes: a real kernel keeps no virtual time",
                "bottomhalf up, or run --processes",
            )
        if settings.guest:
            raise BottomhalfError(
                "a guest cannot be simulated: a virtual machine keeps no virtual time",
                "bottomhalf up, or run --processes",
            )
        self._ends: dict[str, tuple[int, int | None, int | None]] = {}
        seats = known_places.places(settings) if places is None else places
        self.simulation = Simulation(settings.layout(), seats, link_latency(settings), seed)
        self.ram = self.simulation.ram
        #: how time passes; machines on one LAN share it (``orchestrator.machines.joined``)
        self.run: Callable[[int, Callable[[], bool]], None] = self.simulation.run_until

    def now_ns(self) -> int:
        return self.simulation.now_ns

    def pump(self, until_ns: int, stop: Callable[[], bool] | None = None) -> None:
        """See ``Machine.pump``; virtual time goes on even when nothing happens."""

        said = self.simulation.to_orchestrator

        def after_turn() -> bool:
            while said:
                self._file(*said.popleft())
            return stop is not None and stop()

        self.run(until_ns, after_turn)

    def quiet_until(self) -> int:
        return self.simulation.next_ns()

    # -- life and death

    def _living(self, node: str) -> None:
        if not self.simulation.alive(node):
            raise ProcessLookupError(f"{node} is dead")

    def kill(self, node: str) -> None:
        self._living(node)
        self.simulation.kill(node)
        self._ends[node] = (self.now_ns(), SIGKILL, None)
        self._desk.node_died(node, f"{node} died ({self.state(node).cause})")

    def freeze(self, node: str) -> None:
        self._living(node)
        self.simulation.freeze(node)

    def thaw(self, node: str) -> None:
        self._living(node)
        self.simulation.thaw(node)

    def restart(self, node: str) -> None:
        if self.simulation.alive(node):
            raise ValueError(f"{node} is alive")
        self._keep_page(node)
        self.simulation.restart(node)
        self._ends.pop(node, None)

    def state(self, node: str) -> NodeState:
        alive = self.simulation.alive(node)
        frozen = alive and self.simulation.frozen(node)
        started = self.ram.page(node)["started_ns"]
        since, signo, code = self._ends.get(node, (started, None, None))
        return NodeState(
            node, None, self.ram.incarnation(node), alive, frozen, frozen, signo, code, since,
            not alive and node in self._pulled,
        )  # fmt: skip

    def _deliver(self, node: str, message: Any) -> str:
        if not self.simulation.alive(node):
            return f"{node} is dead ({self.state(node).cause})"
        self.simulation.send(node, message)
        return ""

    def close(self) -> None:
        """Nothing is left behind but memory."""
