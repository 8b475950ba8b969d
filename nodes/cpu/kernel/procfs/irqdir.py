"""/proc/irq (kernel/irq/proc.c; kernel-core reference section 9.4).

A directory for each irq with its affinity as masks and lists, the hint its driver gave, its NUMA
node, the spurious detector's counts, and an empty directory named after each action. 2.6.18 has
smp_affinity and the action names alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodes.cpu.kernel.irq.cpumask import format_list, format_mask

DIRECTORY = "/proc/irq/"
DEFAULT_AFFINITY = DIRECTORY + "default_smp_affinity"

Boot = Mapping[str, Any]
#: What a file shows: (boot's snapshot, the irq's row) -> text.
Show = Callable[[Boot, Mapping[str, Any]], str]


def _unpacked(mask: bytes) -> int:
    return int.from_bytes(mask, "little")


def _mask(key: str) -> Show:
    return lambda boot, row: format_mask(_unpacked(row[key]), boot["cpumask_bits"]) + "\n"


def _list(key: str) -> Show:
    return lambda _boot, row: format_list(_unpacked(row[key])) + "\n"


def _node(_boot: Boot, row: Mapping[str, Any]) -> str:
    return f"{row['node']}\n"


def _spurious(boot: Boot, row: Mapping[str, Any]) -> str:
    count, unhandled, jiffies = row["spurious"]
    last_ms = 0
    if jiffies:  # the kernel's count begins five minutes before 2^32; an unsigned int of ms is left
        last_ms = (jiffies + (1 << 32) - 300 * boot["hz"]) * 1000 // boot["hz"] & 0xFFFF_FFFF
    return f"count {count}\nunhandled {unhandled}\nlast_unhandled {last_ms} ms\n"


_ALL: dict[str, Show] = {
    "affinity_hint": _mask("hint"),
    "effective_affinity": _mask("effective"),
    "effective_affinity_list": _list("effective"),
    "node": _node,
    "smp_affinity": _mask("affinity"),
    "smp_affinity_list": _list("affinity"),
    "spurious": _spurious,
}
_EFFECTIVE = ("effective_affinity", "effective_affinity_list")
FILES: dict[str, dict[str, Show]] = {
    "2.6.18": {"smp_affinity": _ALL["smp_affinity"]},
    "3.10": {name: show for name, show in _ALL.items() if name not in _EFFECTIVE},
    "6.1": _ALL,
}
#: Permission bits; later kernels let everybody read.
MODES: dict[str, dict[str, int]] = {
    "2.6.18": {"smp_affinity": 0o600},
    "3.10": {
        "affinity_hint": 0o400, "node": 0o444, "smp_affinity": 0o600, "smp_affinity_list": 0o600,
        "spurious": 0o444,
    },
    "6.1": {
        "affinity_hint": 0o444, "effective_affinity": 0o444, "effective_affinity_list": 0o444,
        "node": 0o444, "smp_affinity": 0o644, "smp_affinity_list": 0o644, "spurious": 0o444,
    },
}  # fmt: skip


def show_default(boot: Boot) -> str:
    """default_smp_affinity: what an irq gets that nobody has set."""
    return format_mask(_unpacked(boot["default_affinity"]), boot["cpumask_bits"]) + "\n"


def _find(path: str, boot: Boot) -> tuple[str, Mapping[str, Any] | None]:
    """(file name, the irq's row)."""
    number, _, name = path.removeprefix(DIRECTORY).partition("/")
    return name, boot["irq_dirs"].get(int(number)) if number.isdecimal() else None


def owner(path: str, boot: Boot) -> tuple[str, str] | None:
    """Whom to ask for what the boot CPU does not know: the spurious detector's counts lie with
    the CPU that takes the irq."""
    name, row = _find(path, boot)
    if row is None or name != "spurious":
        return None
    return f"cpu{row['target']}", "spurious:" + path.removeprefix(DIRECTORY).partition("/")[0]


def show(path: str, boot: Boot, snapshots: Mapping[str, Any]) -> str | None:
    """Text of a file below /proc/irq; None if there is no such file."""
    if path == DEFAULT_AFFINITY:
        return show_default(boot) if boot["proc_format"] != "2.6.18" else None
    name, row = _find(path, boot)
    function = FILES[boot["proc_format"]].get(name)
    if row is None or function is None:
        return None
    asked = owner(path, boot)
    counts = snapshots.get(asked[0], {}).get("spurious") if asked is not None else None
    return function(boot, {**row, "spurious": counts or (0, 0, 0)})


def paths(boot: Boot) -> list[str]:
    """All files and, ending in a slash, the empty directories of the actions."""
    names = list(FILES[boot["proc_format"]])
    found = [] if boot["proc_format"] == "2.6.18" else [DEFAULT_AFFINITY]
    for irq, row in boot["irq_dirs"].items():
        here = f"{DIRECTORY}{irq}/"
        found += [here + name for name in names]
        found += [f"{here}{action}/" for action in dict.fromkeys(row["actions"])]
    return found
