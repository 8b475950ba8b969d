"""Which node sits at which place: what kind of machine is modelled by what, and wired to whom.

The builders are ``functools.partial`` of node classes, so they can be pickled: reading them back in
the fork server is what imports the nodes' modules there. Whoever never builds a machine (a client
of a running one) never imports them.
"""

from __future__ import annotations

from functools import partial

from bus.simulation import NodeFactory, Place
from nodes.machine import APIC, LAN, MachineSettings, vfio_socket

#: What the fork server imports while the orchestrator is still reading its configuration.
MODULES = ("nodes.cpu.node", "nodes.nic.node", "nodes.apic.node", "nodes.lan.node")


def places(settings: MachineSettings) -> dict[str, Place]:
    """All nodes of a machine, in the order of ``settings.node_names``."""
    if settings.guest:
        return _guest_places(settings)
    from nodes.apic.node import ApicNode  # noqa: PLC0415
    from nodes.cpu.node import CpuNode  # noqa: PLC0415
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


def _guest_places(settings: MachineSettings) -> dict[str, Place]:
    """NICs with a port to the guest, and the LAN."""
    from nodes.lan.node import LanNode  # noqa: PLC0415
    from nodes.nic.guest import CARD, GuestNicNode  # noqa: PLC0415

    nics = {
        nic.name: Place(
            partial(GuestNicNode, machine=settings, nic=nic),
            settings.peers(nic.name),
            (vfio_socket(nic.name), CARD),
        )
        for nic in settings.nics
    }
    return {**nics, LAN: Place(partial(LanNode, machine=settings), settings.peers(LAN))}
