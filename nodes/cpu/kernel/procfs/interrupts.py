"""/proc/interrupts and /proc/softirqs (kernel-core reference sections 9.1 and 9.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.ram import Page
from nodes.cpu.page import ARCH_IRQS

_TEXT = {
    "NMI": "Non-maskable interrupts",
    "LOC": "Local timer interrupts",
    "SPU": "Spurious interrupts",
    "PMI": "Performance monitoring interrupts",
    "IWI": "IRQ work interrupts",
    "RTR": "APIC ICR read retries",
    "RES": "Rescheduling interrupts",
    "CAL": "Function call interrupts",
    "TLB": "TLB shootdowns",
    "TRM": "Thermal event interrupts",
    "THR": "Threshold APIC interrupts",
    "DFR": "Deferred Error APIC interrupts",
    "MCE": "Machine check exceptions",
    "MCP": "Machine check polls",
    "PIN": "Posted-interrupt notification event",
    "NPI": "Nested posted-interrupt event",
    "PIW": "Posted-interrupt wakeup event",
}
#: Architecture rows of each format; ERR and MIS have one number and no text.
_ROWS = {
    "2.6.18": ("NMI", "LOC", "ERR", "MIS"),
    "3.10": (
        "NMI", "LOC", "SPU", "PMI", "IWI", "RTR", "RES", "CAL", "TLB", "TRM", "THR", "MCE", "MCP",
        "ERR", "MIS",
    ),
    "6.1": (
        "NMI", "LOC", "SPU", "PMI", "IWI", "RTR", "RES", "CAL", "TLB", "TRM", "THR", "DFR", "MCE",
        "MCP", "ERR", "MIS", "PIN", "NPI", "PIW",
    ),
}  # fmt: skip
_SINGLE = ("ERR", "MIS")


def _precision(nr_irqs: int) -> int:
    """Width of the labels: room for the largest irq number, three digits at least."""
    return max(3, len(str(nr_irqs)) if nr_irqs >= 1000 else 0)


def _chip(era: str, hwirq: int, chip: str, flow: str, prec: int) -> str:
    if era == "2.6.18":
        return f" {chip:>14}"
    if era == "3.10":
        return f" {chip:>8}-{flow:<8}"
    return f" {chip:>8} {hwirq:{prec}d}-{flow:<8}"


def render_interrupts(boot: Mapping[str, Any], pages: Mapping[str, Page]) -> str:
    """One row a device interrupt, then the architecture's."""
    era, online = boot["proc_format"], boot["online"]
    columns = [pages[f"cpu{number}"] for number in online]
    counts = [page.run("irqs") for page in columns]
    prec = _precision(boot["nr_irqs"])
    lines = [" " * (prec + 8) + "".join(f"CPU{number:<8d}" for number in online)]
    for irq, hwirq, chip, names in boot["irqs"]:
        row = f"{irq:{prec}d}: " + "".join(f"{count[irq]:10d} " for count in counts)
        if not names and (era == "2.6.18" or not any(count[irq] for count in counts)):
            continue
        flow = boot["irq_flows"][irq]
        lines.append(row + _chip(era, hwirq, chip, flow, prec) + "  " + ", ".join(names))
    arch = [page.run("arch_irqs") for page in columns]
    for label in _ROWS[era]:
        at = ARCH_IRQS.index(label)
        if label in _SINGLE:
            lines.append(f"{label:>{prec}}: {sum(count[at] for count in arch):10d}")
            continue
        row = f"{label:>{prec}}: " + "".join(f"{count[at]:10d} " for count in arch)
        lines.append(row + (f"  {_TEXT[label]}" if era != "2.6.18" else ""))
    return "\n".join(lines) + "\n"


def render_softirqs(boot: Mapping[str, Any], pages: Mapping[str, Page]) -> str:
    """One row a vector, one column a possible CPU."""
    counts = [page.run("softirqs") for page in pages.values()]
    lines = [" " * 20 + "".join(f"CPU{number:<8d}" for number in range(len(counts)))]
    for vector, name in enumerate(boot["softirq_names"]):
        lines.append(f"{name:>12}:" + "".join(f" {count[vector]:10d}" for count in counts))
    return "\n".join(lines) + "\n"
