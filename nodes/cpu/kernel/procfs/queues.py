"""/sys/class/net/DEV/queues, after net/core/net-sysfs.c: byte limits and timeouts of transmit
queues, steering of receive queues. Left out: xps_cpus, rps_flow_cnt, traffic classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodes.cpu.kernel.irq.cpumask import format_mask
from nodes.cpu.kernel.procfs.tree import Boot, Groups, Pages, file

_TX = "/sys/class/net/{port}/queues/tx-{txq}/"
_RX = "/sys/class/net/{port}/queues/rx-{rxq}/"
MS = 1000

_LIMITS: dict[str, Callable[[Boot, Mapping[str, Any]], int]] = {
    "limit": lambda _boot, row: row["limit"],
    "limit_max": lambda _boot, row: row["limit_max"],
    "limit_min": lambda _boot, row: row["limit_min"],
    "hold_time": lambda boot, row: row["hold_time"] * MS // boot["hz"],
    "inflight": lambda _boot, row: row["inflight"],
}


def _row(boot: Boot, groups: Groups, queue: str) -> Mapping[str, Any]:
    rows = boot["queues"][groups["port"]]
    row: Mapping[str, Any] = rows[int(groups[queue])]
    return row


def _limit(name: str) -> None:
    get = _LIMITS[name]

    @file(f"{_TX}byte_queue_limits/{name}")
    def show(boot: Boot, _pages: Pages, groups: Groups) -> str:
        return f"{get(boot, _row(boot, groups, 'txq'))}\n"


for _name in _LIMITS:
    _limit(_name)


@file(_TX + "tx_timeout")
def show_tx_timeout(boot: Boot, _pages: Pages, groups: Groups) -> str:
    """How often the watchdog found the queue stopped."""
    return f"{_row(boot, groups, 'txq')['tx_timeout']}\n"


@file(_RX + "rps_cpus")
def show_rps_cpus(boot: Boot, _pages: Pages, groups: Groups) -> str:
    mask = sum(1 << number for number in _row(boot, groups, "rxq")["rps"])
    return format_mask(mask, boot["cpumask_bits"]) + "\n"
