"""Renderers of /proc and /sys text, byte for byte as the era's kernel prints it.

Pure functions: a file is rendered from the CPUs' ``kernel`` snapshots and their pages, outside the
machine, by whoever asked. Formats: kernel/irq/proc.c, fs/proc, net/core/net-procfs.c,
drivers/net/bonding/bond_procfs.c; templates and captures of real kernels are the tests' judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from errno import EISDIR, ENOENT
from typing import Any

from bus.ram import Page
from nodes.cpu.kernel.procfs import (  # noqa: F401  (some only register)
    bonding,
    bonding_ad,
    bondingsysfs,
    conntrack,
    cpus,
    interrupts,
    irqdir,
    network,
    queues,
    snmp,
    sockets,
    stat,
    sysfs,
    system,
)
from nodes.cpu.kernel.procfs.tree import files as tree_files

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
    "/proc/net/stat/rt_cache": network.render_rt_cache,
    "/proc/net/route": network.render_route,
    "/proc/net/snmp": snmp.render_snmp,
    "/proc/net/udp": sockets.render_udp,
    "/proc/net/raw": sockets.render_raw,
}
#: Files that a format's kernel does not have.
ABSENT = {"2.6.18": ("/proc/softirqs",), "3.10": (), "6.1": ()}
BONDING_DIRECTORY = "/proc/net/bonding/"


def render(path: str, snapshots: Snapshots, pages: Pages) -> str:
    """Text of ``path``; OSError as open(2) and read(2) give it."""
    boot = snapshots["cpu0"]
    if path.startswith(BONDING_DIRECTORY):
        bond = boot["bonds"].get(path.removeprefix(BONDING_DIRECTORY))
        if bond is not None:
            return bonding.render_bond(boot, bond)
    if path.startswith(irqdir.DIRECTORY):
        text = irqdir.show(path, boot, snapshots)
        if text is not None:
            return text
    if path == conntrack.path(boot):
        return conntrack.render(boot)
    renderer = FILES.get(path)
    if renderer is not None and path not in ABSENT[boot["proc_format"]]:
        return renderer(boot, pages)
    found = tree_files(boot).get(path)
    if found is not None:
        return found.show(boot, pages, found.groups)
    if is_directory(path, paths(snapshots)):
        raise IsADirectoryError(EISDIR, path)
    raise FileNotFoundError(ENOENT, path)


def also_asked(path: str, boot: Mapping[str, Any]) -> tuple[str, str] | None:
    """(CPU, snapshot) that ``path`` needs beside the boot CPU's tables, if any."""
    return irqdir.owner(path, boot) if path.startswith(irqdir.DIRECTORY) else None


def paths(snapshots: Snapshots) -> list[str]:
    """All files there are."""
    boot = snapshots["cpu0"]
    files = [path for path in FILES if path not in ABSENT[boot["proc_format"]]]
    files += [BONDING_DIRECTORY + name for name in boot["bonds"]]
    files += filter(None, [conntrack.path(boot)])
    files += irqdir.paths(boot)
    return sorted([*files, *tree_files(boot)])


def is_directory(path: str, files: Sequence[str]) -> bool:
    """Does anything lie below ``path``?"""
    below = path.rstrip("/") + "/"
    return any(name.startswith(below) for name in files)


def listing(path: str, files: Sequence[str]) -> list[str]:
    """Names in the directory ``path``."""
    below = path.rstrip("/") + "/"
    names = dict.fromkeys(
        name.removeprefix(below).split("/")[0]
        for name in files
        if name.startswith(below) and name != below  # that one is an empty directory
    )
    return sorted(names)
