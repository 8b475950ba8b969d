"""Thousands of random cases keep the rules of workqueues (``wq_interleavings``)."""

from __future__ import annotations

import pytest

from tests.nodes.cpu import wq_interleavings
from tests.nodes.cpu.harness import ERAS
from tests.nodes.cpu.workqueue.bench import CMWQ


@pytest.mark.parametrize("cpus", [1, 2, 3, 4])
@pytest.mark.parametrize("era", ERAS)
def test_random_works(era: str, cpus: int) -> None:
    assert wq_interleavings.run(era, cpus, first=cpus * 1000, count=100) == 100


@pytest.mark.parametrize("cpus", [2, 4])
@pytest.mark.parametrize("era", ERAS)
def test_random_works_while_a_cpu_goes_off_and_on(era: str, cpus: int) -> None:
    assert wq_interleavings.run(era, cpus, first=cpus * 1000, count=60, plug=True) == 60


@pytest.mark.conformance("K5.6-3")
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("era", CMWQ)
def test_works_that_wait_for_anything_deadlock_only_where_linux_would(era: str, cpus: int) -> None:
    """A work that flushes itself is one of them."""
    assert wq_interleavings.deadlocks(era, cpus, first=1, count=40) > 0
