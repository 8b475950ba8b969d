"""All modes: importing them registers them (``mode.MODES``)."""

from __future__ import annotations

from nodes.cpu.kernel.net.bonding import (  # noqa: F401
    active_backup,
    alb,
    balance_rr,
    balance_xor,
    bond_3ad,
    broadcast,
    tlb,
)
