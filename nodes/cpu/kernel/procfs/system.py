"""Files about the whole: /proc/version, uptime, cpuinfo, modules and /proc/sys.

After fs/proc and kernel/module.c. /proc/cpuinfo names what is there, a process,
and no features that nobody has. There is no /proc/loadavg: nothing samples the run queues.
"""

from __future__ import annotations

from errno import EACCES

from nodes.cpu.kernel.procfs.tree import Boot, Groups, Pages, file


@file("/proc/version")
def show_version(boot: Boot, _pages: Pages, _groups: Groups) -> str:
    return f"Linux version {boot['release']} (bottomhalf)\n"


@file("/proc/uptime")
def show_uptime(boot: Boot, pages: Pages, _groups: Groups) -> str:
    """Seconds since boot, and what all online CPUs were idle."""
    up = boot["uptime_ns"]
    busy = ("hardirq_ns", "softirq_ns", "task_ns")
    idle = sum(
        max(0, up - sum(pages[f"cpu{number}"][field] for field in busy))
        for number in boot["online"]
    )
    return f"{_seconds(up)} {_seconds(idle)}\n"


def _seconds(ns: int) -> str:
    return f"{ns // 1_000_000_000}.{ns // 10_000_000 % 100:02d}"


@file("/proc/cpuinfo")
def show_cpuinfo(boot: Boot, _pages: Pages, _groups: Groups) -> str:
    return "".join(
        f"processor\t: {number}\nvendor_id\t: bottomhalf\n"
        f"model name\t: bottomhalf CPU, a process\napicid\t\t: {number}\n\n"
        for number in boot["online"]
    )


@file("/proc/modules")
def show_modules(boot: Boot, _pages: Pages, _groups: Groups) -> str:
    """The last one loaded comes first."""
    return "".join(
        f"{name} {size} 0 - {state} 0x0000000000000000\n"
        for name, size, state in reversed(boot["modules"])
    )


@file("/proc/sys/{sysctl}")
def show_sysctl(boot: Boot, _pages: Pages, groups: Groups) -> str:
    value = boot["sysctl"][groups["sysctl"]]
    if value is None:
        raise OSError(EACCES, "write only")
    return f"{value}\n"
