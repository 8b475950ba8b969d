"""Renderers of /proc text, byte for byte as the era's kernel prints it.

Pure functions: a file is rendered from the CPUs' ``kernel`` snapshots and their pages, outside the
machine, by whoever asked. Formats: kernel/irq/proc.c, fs/proc, net/core/net-procfs.c,
drivers/net/bonding/bond_procfs.c; templates and captures of real kernels are the tests' judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bus.ram import Page
from nodes.cpu.kernel.procfs import bonding, interrupts, irqdir, network, stat

#: Snapshots of the CPUs that answered (boot CPU: "cpu0") and the pages of all CPUs, by name.
Snapshots = Mapping[str, Mapping[str, Any]]
Pages = Mapping[str, Page]
Renderer = Callable[[Mapping[str, Any], Pages], str]

FILES: dict[str, Renderer] = {
    "/proc/interrupts": interrupts.render_interrupts,
    "/proc/softirqs": interrupts.render_softirqs,
    "/proc/stat": stat.render_stat,
    "/proc/net/dev": network.render_dev,
    "/proc/net/softnet_stat": network.render_softnet_stat,
    "/proc/net/arp": network.render_arp,
    "/proc/net/route": network.render_route,
}
#: Files that a format's kernel does not have.
ABSENT = {"2.6.18": ("/proc/softirqs",), "3.10": (), "6.1": ()}
BONDING_DIRECTORY = "/proc/net/bonding/"


def render(path: str, snapshots: Snapshots, pages: Pages) -> str:
    """Text of ``path``; FileNotFoundError if this kernel has no such file."""
    boot = snapshots["cpu0"]
    if path.startswith(BONDING_DIRECTORY):
        bond = boot["bonds"].get(path.removeprefix(BONDING_DIRECTORY))
        if bond is not None:
            return bonding.render_bond(boot, bond)
    if path.startswith(irqdir.DIRECTORY):
        text = irqdir.show(path, boot, snapshots)
        if text is not None:
            return text
    renderer = FILES.get(path)
    if renderer is None or path in ABSENT[boot["proc_format"]]:
        raise FileNotFoundError(path)
    return renderer(boot, pages)


def also_asked(path: str, boot: Mapping[str, Any]) -> tuple[str, str] | None:
    """(CPU, snapshot) that ``path`` needs beside the boot CPU's tables, if any."""
    return irqdir.owner(path, boot) if path.startswith(irqdir.DIRECTORY) else None


def paths(snapshots: Snapshots) -> list[str]:
    """All files there are."""
    boot = snapshots["cpu0"]
    files = [path for path in FILES if path not in ABSENT[boot["proc_format"]]]
    return sorted(files + irqdir.paths(boot) + [BONDING_DIRECTORY + name for name in boot["bonds"]])
