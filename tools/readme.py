"""Write what the program itself says into the README: the followed ping and the overview's picture.

    python -m tools.readme

Both come from the simulation with a fixed seed, so a test can check that they are still true.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.configuration import config
from orchestrator.dashboards.live import gather
from orchestrator.dashboards.screens import svg
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive
from orchestrator.verbs.process import view_of
from orchestrator.views.follow import follow

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "overview.svg"
BEGIN, END = "<!-- follow: begin", "<!-- follow: end -->"
SEED = 7
MS = 1_000_000
#: How long after the kill the picture is taken.
AFTER_KILL_MS = 64


def followed() -> str:
    """What ``bottomhalf follow ping -c 1 gateway`` prints for the second ping of a machine."""
    machine = SimulatedMachine(config.load("bond-pair"), seed=SEED)
    lines: list[str] = []
    session = Session(machine, out=lines.append)
    drive(session, session.program(("ping", "-c", "1", "192.168.1.1"), show=False))
    drive(session, follow(session, ["ping", "-c", "1", "gateway"]))
    return "".join(lines)


def draw(path: Path) -> None:
    """The overview ``AFTER_KILL_MS`` after SIGKILL for the active NIC."""
    machine = SimulatedMachine(config.load("bond-pair"), seed=SEED)
    machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", "192.168.1.1"))
    machine.pump(machine.now_ns() + 1000 * MS)
    view = view_of(machine)
    gather(view, 2.0, machine.pump)
    machine.kill("eth0")
    gather(view, AFTER_KILL_MS / 1000, machine.pump)
    svg(view, None, str(path))


def with_listing(text: str, listing: str) -> str:
    """The README's text with the listing between its two marks."""
    head, rest = text.split(BEGIN, 1)
    mark, rest = rest.split("-->", 1)
    tail = rest.split(END, 1)[1]
    return f"{head}{BEGIN}{mark}-->\n```\n{listing}```\n{END}{tail}"


def main() -> int:
    """Write both."""
    README.write_text(with_listing(README.read_text(), followed()))
    draw(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
