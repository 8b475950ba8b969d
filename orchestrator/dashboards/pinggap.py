"""When a silence of a ping is a gap: longer than a late reply, and requests were lost in it.

Read from the CPU's page alone: the times of the last reply, and a window of 64 bits in which the
answered ones of the last requests are set.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.dashboards.nodeview import NodeView

#: A silence is a gap when it is longer than this many intervals of the ping, and than 20 ms.
GAP_INTERVALS = 3
GAP_NS_MIN = 20_000_000


class Gap(NamedTuple):
    """A silence of a ping that is over; clock of the machine."""

    start_ns: int
    end_ns: int


def gap_limit_ns(interval_ns: int) -> int:
    """A longer silence than this, of a ping with such an interval, is a gap."""
    return max(GAP_INTERVALS * interval_ns, GAP_NS_MIN)


def ended_gap(cpu: NodeView) -> Gap | None:
    """A silence of this CPU's ping that ended between the last two samples."""
    if len(cpu.fast) < 2:
        return None
    interval = cpu.get("ping_interval_ns")
    end = cpu.get("ping_last_reply_ns")
    start, received = (cpu.previous(f) for f in ("ping_last_reply_ns", "ping_received"))
    if not start or cpu.previous("ping_interval_ns") != interval:
        return None
    if not _lost_before_newest(cpu.get("ping_window"), cpu.get("ping_sent")):
        return None  # late is not lost
    # Replies that came after the first one between the two samples are no part of the silence.
    end -= max(cpu.get("ping_received") - received - 1, 0) * interval
    return Gap(start, end) if end - start > gap_limit_ns(interval) else None


def _lost_before_newest(window: int, sent: int) -> int:
    """Requests in a row without an answer, just before the newest ones that were answered."""
    letters = "".join("!" if window >> n & 1 else "." for n in range(min(sent, 64)))
    before = letters.lstrip(".").lstrip("!")
    return len(before) - len(before.lstrip("."))
