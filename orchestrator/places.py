"""Which node sits at which place: what kind of machine is modelled by what, and wired to whom.

The builders are ``functools.partial`` of node classes, so they can be pickled: reading them back in
the fork server is what imports the nodes' modules there. Whoever never builds a machine (a client
of a running one) never imports them.
"""

from __future__ import annotations

from functools import partial

from bus.simulation import NodeFactory, Place
from nodes.machine import APIC, LAN, MachineSettings

#: What the fork server imports while the orchestrator is still reading its configuration.
MODULES = ("nodes.cpu.core", "nodes.nic.node", "nodes.apic.node", "nodes.lan.node")


def places(settings: MachineSettings) -> dict[str, Place]:
    """All nodes of a machine, in the order of ``settings.node_names``."""
    from nodes.apic.node import ApicNode  # noqa: PLC0415
    from nodes.cpu.core import CpuNode  # noqa: PLC0415
    from nodes.lan.node import LanNode  # noqa: PLC0415
    from nodes.nic.node import NicNode  # noqa: PLC0415

    builders: dict[str, NodeFactory] = {
        **{
            name: partial(CpuNode, machine=settings, number=number)
            for number, name in enumerate(settings.cpu_names)
        },
        APIC: partial(ApicNode, machine=settings),
        **{nic.name: partial(NicNode, machine=settings, nic=nic) for nic in settings.nics},
        LAN: partial(LanNode, machine=settings),
    }
    return {name: Place(builders[name], settings.peers(name)) for name in settings.node_names}
