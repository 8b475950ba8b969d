"""Works on real processes; a hundred thousand of them: ``make soak``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.machine.wq_torture import check, torture

pytestmark = pytest.mark.processes


def test_five_thousand_works_on_two_cpus_run_once_each(tmp_path: Path) -> None:
    check(torture(tmp_path, "6.1", 2, 5000), 5000)
