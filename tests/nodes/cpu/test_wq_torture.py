"""The lab module wq_torture, on the simulation: thousands of works across CPUs, each counted."""

from __future__ import annotations

import pytest

from tests.nodes.cpu.harness import ERAS, Box


def outcome(box: Box) -> dict[str, int]:
    """Its report."""
    (line,) = [text for text in box.said() if text.startswith("wq_torture: ")]
    return {key: int(value) for key, value in (word.split("=") for word in line.split()[1:])}


@pytest.mark.parametrize(("cpus", "works"), [(1, 500), (2, 2000), (8, 1000)])
@pytest.mark.parametrize("era", ERAS)
def test_every_work_runs_as_often_as_it_was_queued(era: str, cpus: int, works: int) -> None:
    box = Box(era, cpus=cpus)
    assert box.run("insmod", "wq_torture", f"works={works}").code == 0
    found = outcome(box)
    assert (found["cpus"], found["queued"], found["ran"]) == (cpus, works, works)
    assert found["lost"] == found["twice"] == found["at_once"] == 0
    assert box.run("rmmod", "wq_torture").code == 0


def test_a_number_that_is_none_is_refused() -> None:
    ran = Box("6.1").run("insmod", "wq_torture", "works=0")
    assert ran.code == 1
    assert "Invalid parameters" in ran.err
