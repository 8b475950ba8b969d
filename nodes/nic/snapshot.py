"""What a NIC tells beyond its page: plain values for dashboards and for looking at registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nodes.nic.registers import name_of

if TYPE_CHECKING:
    from nodes.nic.node import NicNode


def _state(nic: NicNode) -> dict[str, Any]:
    """Identity, MSI-X table, mapped windows, moderation."""
    device = nic.device
    interrupts = device.interrupts
    return {
        "name": nic.name,
        "slot": nic.settings.slot,
        "pci": nic.settings.pci_name,
        "mac": nic.settings.mac.hex(":"),
        "link_up": device.link.up,
        "light": device.link.light,
        "laser": device.link.laser,
        "module": device.cage.module,
        "msix_enabled": nic.msix.enabled,
        "msix": [list(entry) for entry in nic.msix.entries()],
        "pba": nic.msix.pending,
        "eicr": interrupts.eicr,
        "eims": interrupts.eims,
        "eicr_vectors": interrupts.pending,
        "eims_vectors": interrupts.enabled,
        "itr_ns": {str(v): ns for v, ns in enumerate(interrupts.timers.interval_ns) if ns},
        "windows": [list(window) for window in device.dma.windows()],
    }


def _registers(nic: NicNode) -> dict[str, int]:
    """Every register that does not have its reset value, by name; no side effects."""
    differing = nic.device.regs.differing()
    return {name_of(offset): differing[offset] for offset in sorted(differing)}


SNAPSHOTS: dict[str, Callable[[NicNode], Any]] = {"state": _state, "registers": _registers}
