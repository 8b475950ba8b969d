"""Which of the host's processors runs which process of a machine.

A message that crosses from one processor of the host to another costs two to three times one that
stays, because a processor that sleeps must be woken; and left to itself the host's scheduler moves
a process to whichever processor sleeps, at every hop. So with ``placement = "bound"`` each process
keeps to one processor. What speaks to one another most stays together: NICs and LAN on the last
processor, the interrupt controller beside the boot CPU, CPUs one after the other from the first
on. The list of processors is turned by a number out of the machine's name, so that several machines
do not all meet on the same one.

Only processors that the orchestrator itself may use count: ``taskset -c 2,3 bottomhalf ...``
chooses them. A virtual machine (``guest``) brings threads of its own, which only the scheduler
knows; its NICs are not bound.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from zlib import crc32

from nodes.machine import APIC, MachineSettings


def processors(settings: MachineSettings, available: Sequence[int] | None = None) -> dict[str, int]:
    """Processor of each process that is bound to one. ``available`` (default: what this process
    may use) are the host's processors."""
    hosts = sorted(os.sched_getaffinity(0)) if available is None else list(available)
    if settings.placement == "free" or settings.guest or len(hosts) == 1:
        return {}
    turn = crc32(settings.name.encode()) % len(hosts)
    hosts = hosts[turn:] + hosts[:turn]
    places = dict.fromkeys(settings.node_names, hosts[-1])
    for number, name in enumerate(settings.cpu_names):
        places[name] = hosts[number % len(hosts)]
    places[APIC] = hosts[0]
    return places
