"""Byte queue limits: how many bytes a ring may hold before the stack keeps the rest, after
lib/dynamic_queue_limits.c.

A queue is over its limit when more bytes were queued than completed and allowed. The limit grows
when the ring ran dry although more was waiting, and shrinks when for a second (hold_time) some of
it was never needed. State lies in the ring's words in RAM: who sends (under the tx lock) writes
``NUM_QUEUED`` and ``LAST_OBJ``, who cleans the ring (with NAPI_STATE_SCHED) the rest; the flag
itself is a bit for each CPU in ``STACK_XOFF``, written under the tx lock. Since 3.3 (behaviour
``bql``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Words of a ring's state, behind the driver's own.
NUM_QUEUED, ADJ_LIMIT, LAST_OBJ, LIMIT, NUM_COMPLETED, PREV_OVLIMIT = range(15, 21)
PREV_NUM_QUEUED, PREV_LAST_OBJ, LOWEST_SLACK, SLACK_START = range(21, 25)
MAX_LIMIT, MIN_LIMIT, HOLD_TIME, STACK_XOFF = range(25, 29)
#: Of netdev_queue: jiffies when it was stopped, and how often the watchdog found it so.
TRANS_START, TRANS_TIMEOUT = 29, 30

UINT_MAX = 0xFFFF_FFFF
DQL_MAX_LIMIT = UINT_MAX // 2 - UINT_MAX // 16


def dql_init(cpu: Cpu, state: int) -> None:
    """A new queue."""
    words = cpu.ram.words64
    words[state + MAX_LIMIT], words[state + MIN_LIMIT] = DQL_MAX_LIMIT, 0
    words[state + HOLD_TIME] = cpu.params.hz
    words[state + TRANS_TIMEOUT] = 0
    dql_reset(cpu, state)


def dql_reset(cpu: Cpu, state: int) -> None:
    """netdev_tx_reset_queue: the ring is empty, nothing is known."""
    words = cpu.ram.words64
    for word in range(NUM_QUEUED, LOWEST_SLACK):
        words[state + word] = 0
    words[state + LOWEST_SLACK] = UINT_MAX
    words[state + SLACK_START] = cpu.jiffies()
    words[state + STACK_XOFF] = words[state + TRANS_START] = 0


def dql_completed(cpu: Cpu, state: int, count: int) -> None:
    """``count`` bytes were sent: what may the limit be now?"""
    words = cpu.ram.words64
    queued, before = words[state + NUM_QUEUED], words[state + NUM_COMPLETED]
    limit = words[state + LIMIT]
    last_obj = words[state + LAST_OBJ]
    prev_queued, prev_over = words[state + PREV_NUM_QUEUED], words[state + PREV_OVLIMIT]
    completed = before + count
    over = max(0, queued - before - limit)
    in_progress = queued > completed
    prev_in_progress = prev_queued > before
    all_prev_completed = completed >= prev_queued
    old_limit = limit
    if (over and not in_progress) or (prev_over and all_prev_completed):
        limit += max(0, completed - prev_queued) + prev_over
        words[state + SLACK_START] = cpu.jiffies()
        words[state + LOWEST_SLACK] = UINT_MAX
    elif in_progress and prev_in_progress and not all_prev_completed:
        slack = max(0, limit + prev_over - 2 * count)
        if prev_over:
            slack = max(slack, words[state + PREV_LAST_OBJ] - prev_over)
        lowest = min(words[state + LOWEST_SLACK], slack)
        now = cpu.jiffies()
        if now > words[state + SLACK_START] + words[state + HOLD_TIME]:
            limit = max(0, limit - lowest)
            words[state + SLACK_START], lowest = now, UINT_MAX
        words[state + LOWEST_SLACK] = lowest
    limit = min(max(limit, words[state + MIN_LIMIT]), words[state + MAX_LIMIT])
    if limit != old_limit:
        words[state + LIMIT] = limit
        over = 0
    words[state + PREV_OVLIMIT] = over
    words[state + PREV_LAST_OBJ] = last_obj
    words[state + NUM_COMPLETED] = completed
    words[state + PREV_NUM_QUEUED] = queued
    words[state + ADJ_LIMIT] = limit + completed
