"""The guest's clocks on ours: its time of day, and the time since boot that its log has.

The guest says what time it is, several times; the line that was the quickest tells how far its
clock is from ours, too late by the way of one line (some ms with an emulated CPU). The same it
writes to its own kernel log, which gives the second clock by the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.cpu.programs.process import STDOUT
from orchestrator.errors import EXPECTATION_FAILED, BottomhalfError
from orchestrator.machines.machine import GUEST_PLACE, Machine

_MARK = "bottomhalf: the time is"
_TIMES = 20
_SCRIPT = (
    f"n=0; while [ $n -lt {_TIMES} ]; do n=$((n + 1)); now=$(date +%s.%N); echo $now; "
    f'echo "{_MARK} $now" >/dev/kmsg; sleep 0.02; done; dmesg | grep "{_MARK}"'
)
_LOGGED = re.compile(rf"\[\s*(\d+\.\d+)\] {_MARK} (\d+\.\d+)")
_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class Clocks:
    """What to add to a time of the guest's to have one of ours."""

    of_day_ns: int
    since_boot_ns: int

    def of_day(self, seconds: float) -> int:
        return int(seconds * 1e9) + self.of_day_ns

    def since_boot(self, time_ns: int) -> int:
        return time_ns + self.since_boot_ns


def is_mark(text: str) -> bool:
    """A line of the kernel log that is ours."""
    return _MARK in text


def compare(machine: Machine) -> Clocks:
    """Ask the guest for the time."""
    job = machine.spawn(GUEST_PLACE, ("sh", "-c", _SCRIPT))
    deadline = machine.now_ns() + _TIMEOUT_MS * 1_000_000
    offsets: list[int] = []
    marks: list[int] = []
    while True:
        done = job.done
        for stream, text in job.take():
            logged = _LOGGED.match(text)
            if logged is not None:
                marks.append(int(float(logged[2]) * 1e9) - int(float(logged[1]) * 1e9))
            elif stream == STDOUT and not is_mark(text):
                offsets.append(machine.now_ns() - int(float(text) * 1e9))
        if done or machine.now_ns() > deadline:
            break
        machine.pump(deadline, lambda: bool(job.output) or job.done)
    if not offsets or not marks:
        raise BottomhalfError(
            f"the guest does not say what time it is: {job.failed or 'no answer'}",
            "bottomhalf guest console", EXPECTATION_FAILED,
        )  # fmt: skip
    of_day = min(offsets)
    # The mark is logged after the clock was read: the greatest difference is the least late.
    return Clocks(of_day, of_day + max(marks))
