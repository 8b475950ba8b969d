"""Lab real-driver, all of it. It has a guest of its own, and comes before the one of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.guest import fetch
from tests.guest.conftest import Guest

pytestmark = [pytest.mark.guest, pytest.mark.processes, pytest.mark.slow]


def test_a_real_kernel_fails_over_as_the_lab_says(cached: fetch.Fetched, tmp_path: Path) -> None:
    value = json.loads(
        Guest(tmp_path / "run").bh("lab", "run", "real-driver", "--answers", "--json")
    )
    assert value["passed"]
    lines = [row["line"] for row in value["real"]["log"]]
    assert any("Adapter removed" in line for line in lines)
    assert any("making interface the new active one" in line for line in lines)
    assert not [answer for answer in value["answers"] if "(not measured)" in answer]
    assert list(tmp_path.glob("run/*")) == []
