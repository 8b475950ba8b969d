"""Ten thousand random interleavings of interrupts, softirqs and tasks keep the rules; ``make soak``
makes a million."""

from __future__ import annotations

import pytest

from tests.nodes.cpu import interleavings
from tests.nodes.cpu.harness import ERAS


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("era", ERAS)
def test_random_interleavings(era: str, cpus: int, part: int) -> None:
    assert interleavings.run(era, cpus, first=part * 1000, count=420) == 420
