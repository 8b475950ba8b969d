"""A program of the emulated machine that writes to an irq's smp_affinity, and places that have it.

``write_affinity IRQ MASK`` ends with the errno. The places build the boot CPU through this module,
so that its process knows the program too.
"""

from __future__ import annotations

from functools import partial

from bus.node import Surroundings
from bus.simulation import Place
from nodes.cpu.core import CpuNode
from nodes.cpu.kernel.irq.affinity import write_smp_affinity
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.programs.run import Process, program
from nodes.machine import MachineSettings
from orchestrator import places


@program("write_affinity")
def main(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    error: int = yield from write_smp_affinity(cpu, int(argv[1]), argv[2])
    return -error


def build(around: Surroundings, machine: MachineSettings) -> CpuNode:
    """The boot CPU."""
    return CpuNode(around, machine, 0)


def places_with_writer(settings: MachineSettings) -> dict[str, Place]:
    found = places.places(settings)
    found["cpu0"] = Place(partial(build, machine=settings), found["cpu0"].peers)
    return found
