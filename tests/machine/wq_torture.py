"""wq_torture on real processes: each work runs as often as it was queued, and ``wq`` adds up.

``python -m tests.machine.wq_torture 100000`` does it on 2 and on 8 CPUs (``make soak``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
GUARD_S = 300


class Outcome(NamedTuple):
    report: dict[str, int]  # the module's own line
    total: int  # of its workqueues, by `wq`
    in_flight: int
    seconds: float


def torture(place: Path, era: str, cpus: int, works: int) -> Outcome:
    """Start a machine in ``place``, load the module, end the machine."""
    machine = (ROOT / "configs/machines/bond-pair.toml").read_text()
    own = place / "torture.toml"
    lines = [f"cpus = {cpus}" if ln.startswith("cpus") else ln for ln in machine.splitlines()]
    own.write_text("\n".join(lines) + "\n")
    around = os.environ | {"BOTTOMHALF_RUN_DIR": str(place / "run"), "PYTHONPATH": str(ROOT)}

    def bh(*argv: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *argv],
            env=around, capture_output=True, text=True, check=False, timeout=GUARD_S,
        )  # fmt: skip
        assert ran.returncode == 0, f"{argv}: {ran.stderr}"
        return ran.stdout

    bh("up", "-d", str(own), "--era", era)
    try:
        began = time.monotonic()
        bh("insmod", "wq_torture", f"works={works}")
        seconds = time.monotonic() - began
        (line,) = [ln for ln in bh("dmesg", "-t").splitlines() if ln.startswith("wq_torture: ")]
        rows = [row for row in json.loads(bh("--json", "wq")) if row["name"].startswith("torture")]
    finally:
        bh("down")
    report = {key: int(value) for key, value in (word.split("=") for word in line.split()[1:])}
    done = sum(row["completed"] for row in rows)
    started = sum(row["started"] for row in rows)
    return Outcome(report, started, started - done, seconds)


def check(outcome: Outcome, works: int) -> None:
    report = outcome.report
    assert report["queued"] == report["ran"] == works
    assert report["lost"] == report["twice"] == report["at_once"] == 0
    assert (outcome.total, outcome.in_flight) == (works + report["barriers"], 0)


def main(works: int) -> int:
    for cpus in (2, 8):
        with tempfile.TemporaryDirectory() as place:
            outcome = torture(Path(place), "6.1", cpus, works)
        check(outcome, works)
        print(f"{works} works on {cpus} CPUs: all ran, none twice, {outcome.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
