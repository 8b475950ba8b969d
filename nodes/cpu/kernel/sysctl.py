"""/proc/sys: the knobs of this kernel, after kernel/sysctl.c and net/core/sysctl_net_core.c.

Each CPU has a copy of every value; a write on the boot CPU is published to all, so the new budget
counts from the next NET_RX softirq on. ``dev_weight`` bounds what one softirq takes from the
backlog; drivers' NAPI contexts keep the weight they registered with, as in Linux.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from errno import EINVAL
from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel.files import kstrtoint, store
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish, replica

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

INT_MAX = 0x7FFF_FFFF
NEW_UTS_LEN = 64
ROOT = "/proc/sys/"


@dataclass
class Sysctl:
    """The values, one field a file that can be written; names are the files'."""

    hostname: str
    netdev_budget_usecs: int
    ipfrag_high_thresh: int
    ipfrag_low_thresh: int
    netdev_budget: int = 300
    netdev_max_backlog: int = 1000
    ipfrag_time: int = 30
    dev_weight: int = 64


class Row(NamedTuple):
    """A file below /proc/sys: the field that it shows, or a fixed text; neither: not to be read."""

    path: str
    field: str = ""
    text: str = ""


def rows(cpu: Cpu) -> tuple[Row, ...]:
    """All files, with the fixed texts of this kernel."""
    return (
        Row("kernel/hostname", "hostname"),
        Row("kernel/osrelease", text=cpu.params.release),
        Row("kernel/ostype", text="Linux"),
        Row("kernel/version", text="#1 SMP"),
        Row("net/core/dev_weight", "dev_weight"),
        Row("net/core/netdev_budget", "netdev_budget"),
        Row("net/core/netdev_budget_usecs", "netdev_budget_usecs"),
        Row("net/core/netdev_max_backlog", "netdev_max_backlog"),
        Row("net/ipv4/ipfrag_high_thresh", "ipfrag_high_thresh"),
        Row("net/ipv4/ipfrag_low_thresh", "ipfrag_low_thresh"),
        Row("net/ipv4/ipfrag_time", "ipfrag_time"),
        Row("net/ipv4/route/flush"),
    )


def setup(cpu: Cpu) -> None:
    """The values at boot."""
    params = cpu.params
    cpu.sysctl = Sysctl(
        cpu.machine.hostname,
        netdev_budget_usecs=2_000_000 // params.hz,
        ipfrag_high_thresh=params.ipfrag_high_thresh,
        ipfrag_low_thresh=params.ipfrag_low_thresh,
    )


def values(cpu: Cpu) -> dict[str, str | int | None]:
    """Value of each file, for the renderers; None: it cannot be read."""
    return {
        row.path: getattr(cpu.sysctl, row.field) if row.field else row.text or None
        for row in rows(cpu)
    }


@replica("sysctl")
def apply_sysctl(cpu: Cpu, field: str, value: Any) -> None:
    setattr(cpu.sysctl, field, value)


@store("/proc/sys/net/ipv4/{name}")
@store("/proc/sys/net/core/{name}")
def store_net_core(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    """proc_dointvec."""
    value = dointvec(text)
    if value is None:
        return -EINVAL
    yield from publish(cpu, "sysctl", groups["name"], value)
    return 0


@store("/proc/sys/kernel/hostname")
def store_hostname(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    """proc_do_uts_string: the first line, cut to its length."""
    yield from publish(cpu, "sysctl", "hostname", text.split("\n", maxsplit=1)[0][:NEW_UTS_LEN])
    return 0


def dointvec(text: str) -> int | None:
    """The first number of a line; None if there is none, something hangs on it or it is no int."""
    match = re.match(r"\s*(\S+)", text)
    value = kstrtoint(match[1]) if match is not None else None
    if value is None or not -INT_MAX - 1 <= value <= INT_MAX:
        return None
    return value
