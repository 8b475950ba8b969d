"""Kernel eras as named behaviours; a kernel release is a preset, one column of one table.

Code never asks "which release is this?", it asks for one behaviour. Sources: Linux 2.6.18, 3.10 and
6.1 (``Documentation`` and the subsystems named beside each field). A machine may set any single
behaviour on top of its era (``--set packet_tap=rx_handler``).

``behaviours`` is what there is to ask for, ``eras`` the table, ``choices`` what ``--set`` takes. A
new behaviour is a line in each; all three are long because the behaviours are many.
"""

from __future__ import annotations

from typing import Any, get_type_hints

from nodes.cpu.kernel.params.behaviours import Params
from nodes.cpu.kernel.params.choices import CHOICES, RANGES
from nodes.cpu.kernel.params.eras import ERAS, TABLE

__all__ = ["CHOICES", "ERAS", "PRESETS", "Params", "with_overrides"]

PRESETS: dict[str, Params] = {
    era: Params(**{name: row[column] for name, row in TABLE.items()})
    for column, era in enumerate(ERAS)
}

_HINTS = get_type_hints(Params)


def with_overrides(params: Params, overrides: tuple[tuple[str, str], ...]) -> Params:
    """``params`` with single behaviours replaced; ValueError says what is allowed."""
    changes: dict[str, Any] = {}
    for name, text in overrides:
        if name not in _HINTS:
            raise ValueError(f"there is no behaviour {name}")
        allowed = CHOICES.get(name)
        if allowed is not None and text not in allowed:
            raise ValueError(f"{name} is one of {', '.join(allowed)}")
        if _HINTS[name] is int:
            low, high = RANGES.get(name, (0, 0x7FFF_FFFF))
            try:
                changes[name] = int(text, 0)
            except ValueError:
                raise ValueError(f"{name} is a whole number") from None
            if not low <= changes[name] <= high:
                raise ValueError(f"{name} is {low} to {high}")
        elif _HINTS[name] is str:
            changes[name] = text
        else:
            raise ValueError(f"{name} cannot be set by itself")
    return params._replace(**changes)
