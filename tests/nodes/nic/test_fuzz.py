"""Ten thousand random operations on a NIC break no rule (``fuzz``; ``make soak`` runs more)."""

from __future__ import annotations

import pytest

from nodes.nic.dma import RamDma
from tests.nodes.nic import fuzz


def test_random_operations_break_no_rule() -> None:
    assert fuzz.run(first=1, episodes=20) == 10_000


def test_what_the_rules_are_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that lets every address pass is caught."""

    def anything_goes(self: RamDma, address: int, size: int, write: bool) -> bool:
        return address + size <= self._limit

    monkeypatch.setattr(RamDma, "_allowed", anything_goes)
    with pytest.raises(AssertionError, match="outside the windows"):
        fuzz.run(first=1, episodes=40)
