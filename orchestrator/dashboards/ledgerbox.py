"""The ledger's box of the overview: where every packet and every MSI ended, in two lines."""

from __future__ import annotations

from orchestrator.dashboards.draw import Shelf
from orchestrator.dashboards.model import MachineView


def shelf(view: MachineView) -> list[Shelf]:
    """The box, once the ledger can be asked."""
    return []
