"""Programs of the emulated machine for these tests, and places that have them.

``write_affinity IRQ MASK`` writes to an irq's smp_affinity, ``cpu_online N 0|1`` takes a CPU down
or up; both end with the errno. The places build the boot CPU through this module, so that its
process knows the programs too.
"""

from __future__ import annotations

from functools import partial

from bus.node import Surroundings
from bus.simulation import Place
from nodes.cpu.kernel.cpuhotplug import cpu_down, cpu_up
from nodes.cpu.kernel.irq.affinity import write_smp_affinity
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.node import CpuNode
from nodes.cpu.programs.run import Process, program
from nodes.machine import MachineSettings
from orchestrator.machines import places


@program("write_affinity")
def main(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    error: int = yield from write_smp_affinity(cpu, int(argv[1]), argv[2])
    return -error


@program("cpu_online")
def cpu_online(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    error: int = yield from (cpu_up if argv[2] == "1" else cpu_down)(cpu, int(argv[1]))
    return -error


def build(around: Surroundings, machine: MachineSettings) -> CpuNode:
    """The boot CPU."""
    return CpuNode(around, machine, 0)


def places_with_writer(settings: MachineSettings) -> dict[str, Place]:
    found = places.places(settings)
    found["cpu0"] = Place(partial(build, machine=settings), found["cpu0"].peers)
    return found
