"""The machine that benchmarks measure."""

from __future__ import annotations

from nodes.machine import BondSettings, GatewaySettings, MachineSettings, NicSettings


def machine_settings(name: str, cpus: int, miimon: int = 100) -> MachineSettings:
    """The bonded pair, with any number of CPUs."""
    nics = tuple(
        NicSettings(f"eth{n}", n, bytes((0x00, 0x1B, 0x21, 0, 0, n + 1))) for n in range(2)
    )
    bond = BondSettings(slaves=("eth0", "eth1"), miimon=miimon)
    return MachineSettings(name, "6.1", cpus, nics, bond, GatewaySettings())
