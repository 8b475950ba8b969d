"""/sys/devices/system/cpu, after drivers/base/cpu.c and drivers/base/topology.c.

``cpu0`` has no ``online``: the boot CPU of this machine cannot go. A CPU's topology is there while
it is online, and says what is true here: each CPU is a package of its own. Left out: dies and
clusters, caches, ``hotplug/state``, ``isolated`` and what has no meaning for a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nodes.cpu.kernel.irq.cpumask import format_list, format_mask
from nodes.cpu.kernel.irq.vector import cpu_mask
from nodes.cpu.kernel.procfs.tree import Boot, Groups, Pages, file
from nodes.cpu.kernel.words import CPUS_MAX

ROOT = "/sys/devices/system/cpu/"


def number_of(name: str) -> int:
    """``cpu3`` is number 3."""
    return int(name.removeprefix("cpu"))


def _list(numbers: Iterable[int]) -> str:
    return format_list(cpu_mask(numbers)) + "\n"


@file(ROOT + "online")
def show_online(boot: Boot, _pages: Pages, _groups: Groups) -> str:
    return _list(boot["online"])


@file(ROOT + "offline")
def show_offline(boot: Boot, _pages: Pages, _groups: Groups) -> str:
    """Possible, and not online; an empty line when all are."""
    return _list(n for n in range(boot["possible"]) if n not in boot["online"])


@file(ROOT + "present")
@file(ROOT + "possible")
def show_possible(boot: Boot, _pages: Pages, _groups: Groups) -> str:
    """Every CPU that this machine was built with."""
    return _list(range(boot["possible"]))


@file(ROOT + "kernel_max")
def show_kernel_max(_boot: Boot, _pages: Pages, _groups: Groups) -> str:
    """The highest number that a CPU could have."""
    return f"{CPUS_MAX - 1}\n"


@file(ROOT + "{pluggable_cpu}/online")
def show_cpu_online(boot: Boot, _pages: Pages, groups: Groups) -> str:
    return f"{int(number_of(groups['pluggable_cpu']) in boot['online'])}\n"


def _mask(boot: Boot, number: int) -> str:
    return format_mask(1 << number, boot["cpumask_bits"])


_TOPOLOGY: dict[str, Callable[[Boot, int], object]] = {
    "core_id": lambda boot, number: 0,
    "physical_package_id": lambda boot, number: number,
    "core_siblings": _mask,
    "core_siblings_list": lambda boot, number: number,
    "thread_siblings": _mask,
    "thread_siblings_list": lambda boot, number: number,
}


def _topology(name: str, value: Callable[[Boot, int], object]) -> None:
    @file(f"{ROOT}{{online_cpu}}/topology/{name}")
    def show(boot: Boot, _pages: Pages, groups: Groups) -> str:
        return f"{value(boot, number_of(groups['online_cpu']))}\n"


for _name, _value in _TOPOLOGY.items():
    _topology(_name, _value)
