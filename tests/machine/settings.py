"""The bonded pair as plain settings, for tests of whole machines."""

from __future__ import annotations

from nodes.machine import BondSettings, GatewaySettings, MachineSettings, NicSettings


def bonded_pair(name: str = "m1", era: str = "6.1", cpus: int = 2) -> MachineSettings:
    """bond0 over eth0 and eth1, active-backup, miimon 100."""
    nics = tuple(
        NicSettings(f"eth{n}", n, bytes((0x52, 0x54, 0, 0, 0, 0x10 + n))) for n in range(2)
    )
    bond = BondSettings(slaves=("eth0", "eth1"))
    return MachineSettings(name, era, cpus, nics, bond, GatewaySettings(), completion_timeout_ms=50)
