"""Thousands of random cases keep the rules of workqueues (``wq_interleavings``)."""

from __future__ import annotations

import pytest

from tests.nodes.cpu import wq_interleavings
from tests.nodes.cpu.harness import ERAS


@pytest.mark.parametrize("cpus", [1, 2, 3, 4])
@pytest.mark.parametrize("era", ERAS)
def test_random_works(era: str, cpus: int) -> None:
    assert wq_interleavings.run(era, cpus, first=cpus * 1000, count=300) == 300
