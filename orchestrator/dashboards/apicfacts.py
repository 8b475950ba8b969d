"""What the interrupt controller's page says: sources, routes, and what reached nobody."""

from __future__ import annotations

from typing import NamedTuple

from nodes.apic.ioapic import LOGICAL, MASKED, REMOTE_IRR, is_level
from nodes.apic.msi import FIXED, LOWEST, MODE_NAMES
from nodes.apic.page import IOAPIC_DROPS, IPI_DROPS, MSI_DROPS, NICS_MAX
from orchestrator.dashboards.cpufacts import params
from orchestrator.dashboards.model import MachineView, NodeView, Route

_CPU_SOURCE, _PIN_SOURCE, _OTHERS = 64, 128, 255
#: Why a message reached no CPU, in the words people read.
DROP_WORDS = {
    "msi_drop_window": "MSI address outside of 0xFEExxxxx",
    "msi_drop_remappable": "MSI in remappable format",
    "msi_drop_mode": "MSI with a delivery mode that is reserved",
    "msi_drop_no_target": "MSI to a CPU that does not exist",
    "msi_lost_fault": "MSI lost: fault lose-msi",
    "ipi_drop_mode": "IPI with a delivery mode that is reserved",
    "ipi_drop_vector": "IPI with a vector below 16",
    "ipi_drop_shorthand": "IPI with a shorthand that its mode forbids",
    "ipi_drop_no_target": "IPI to a CPU that does not exist",
    "ipi_drop_deassert": "INIT level de-assert",
    "ioapic_drop_mode": "I/O APIC pin with a delivery mode that is reserved",
    "ioapic_drop_no_target": "I/O APIC pin to a CPU that does not exist",
}
#: What a kernel sends on purpose and hardware ignores since long.
ALL_DROPS = (*MSI_DROPS, *IPI_DROPS, *IOAPIC_DROPS)
HARMLESS = ("ipi_drop_deassert",)


class Seen(NamedTuple):
    """A route that was seen in use."""

    source: str
    name: str
    vector: int
    cpu: str
    age_ns: int


def source_name(view: MachineView, source: int) -> str:
    """Name of the node behind a source number."""
    if source < len(view.nics):
        return view.nic(source)
    if _CPU_SOURCE <= source < _CPU_SOURCE + len(view.cpus):
        return f"cpu{source - _CPU_SOURCE}"
    if _PIN_SOURCE <= source < _OTHERS:
        return f"pin{source - _PIN_SOURCE}"
    return "other"


def vector_name(view: MachineView, route: Route, names: dict[tuple[int, int], str]) -> str:
    """What a vector is for: the name of an interrupt, or the kind of an IPI."""
    if route.delivery_mode not in (FIXED, LOWEST):
        return MODE_NAMES.get(route.delivery_mode, "reserved")
    if route.source < NICS_MAX or _PIN_SOURCE <= route.source < _OTHERS:
        return names.get((route.cpu, route.vector), "")
    kernel = params(view.settings)
    kinds = {
        kernel.reschedule_vector: "reschedule",
        kernel.call_function_single_vector: "call function",
    }
    return kinds.get(route.vector, "")


def routes(view: MachineView) -> list[Seen]:
    """Routes seen in use, those used last first."""
    names = view.msix_names()
    latest = sorted(view.routes.items(), key=lambda item: (-item[1], item[0]))
    return [
        Seen(
            source_name(view, route.source),
            vector_name(view, route, names),
            route.vector,
            f"cpu{route.cpu}",
            view.age_ns(time_ns),
        )
        for route, time_ns in latest
    ]


def drops(node: NodeView) -> list[tuple[str, str, int]]:
    """(field, words, count) of what reached no CPU."""
    return [(name, DROP_WORDS[name], node.get(name)) for name in ALL_DROPS if node.get(name)]


def dropping(node: NodeView) -> tuple[str, int] | None:
    """(words, how many) of the reason that hit most in the last second."""
    grown = {name: node.delta(name) for name in ALL_DROPS if name not in HARMLESS}
    worst = max(grown, key=lambda name: grown[name])
    return (DROP_WORDS[worst], grown[worst]) if grown[worst] else None


def losing(view: MachineView, field: str) -> tuple[str, int] | None:
    """(CPU, how many) that did not take its interrupts in the last second."""
    lost = {cpu.name: view.apic.delta(field, cpu.number) for cpu in view.cpus}
    worst = max(lost, key=lambda name: lost[name])
    return (worst, lost[worst]) if lost[worst] else None


def holding(view: MachineView) -> tuple[str, int] | None:
    """(NIC, how many) MSIs that a NIC holds back because their vectors are masked."""
    for nic in view.nics:
        if nic.alive and nic.get("msi_pending"):
            return nic.name, nic.get("msi_pending")
    return None


def vectors_of(words: list[int]) -> list[int]:
    """Vectors whose bit is set in the 256 bits of IRR or ISR, the highest first."""
    return [
        at * 64 + bit
        for at in range(len(words) - 1, -1, -1)
        for bit in range(63, -1, -1)
        if words[at] >> bit & 1
    ]


class Pin(NamedTuple):
    """A redirection entry, in words."""

    number: int
    vector: int
    mode: str
    trigger: str
    destination: str
    masked: bool
    remote_irr: bool
    active: bool


def pins(node: NodeView) -> list[Pin]:
    """Entries of the I/O APIC that software has routed somewhere, and pins whose line stands."""
    lines = node.get("lines")
    return [
        Pin(
            number,
            entry & 0xFF,
            MODE_NAMES.get(entry >> 8 & 7, "reserved"),
            "level" if is_level(entry) else "edge",
            f"{'logical' if entry & LOGICAL else 'physical'} {entry >> 56:#04x}",
            bool(entry & MASKED),
            bool(entry & REMOTE_IRR),
            bool(lines >> number & 1),
        )
        for number, entry in enumerate(node.run("redirection"))
        if entry & 0xFF or lines >> number & 1
    ]
