"""Captures of a real kernel (tests/data/real-linux), without the line that says what they are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2] / "data" / "real-linux"


def captured(path: str) -> str:
    """Text of one capture as the command printed it."""
    text = (ROOT / path).read_text()
    head, _, rest = text.partition("\n")
    assert head.startswith("# kernel Linux 6.1")
    return rest


def kernel_log(path: str) -> list[tuple[float, str]]:
    """(seconds, text) of the log section of a failover capture, without the recorder's mark."""
    section = (ROOT / path).read_text().split("## kernel log from before the event\n")[1]
    lines = re.findall(r"^\[ *(\d+\.\d+)\] (.*)$", section.split("\n\n")[0], re.MULTILINE)
    return [(float(time), text) for time, text in lines if not text.startswith("GT ")]


def bonding_lines(path: str) -> list[str]:
    """What bonding said there."""
    return [text for _, text in kernel_log(path) if text.startswith("bond0: ")]
