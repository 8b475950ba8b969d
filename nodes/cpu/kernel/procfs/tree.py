"""The names in /proc and /sys: patterns of paths, each with the function that shows the file.

A name in braces stands for one entry of each kind (``NAMES``): ``/sys/class/net/{dev}/mtu`` is a
file for each device. What an era does not have yet is a row of its parameters (``absent_files``); a
pattern that ends in a slash there takes everything below with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from bus.ram import Page

Boot = Mapping[str, Any]
Pages = Mapping[str, Page]
Groups = Mapping[str, str]
#: show(boot's snapshot, pages, what stood for the names in braces); OSError as read(2) gives it
Show = Callable[[Boot, Pages, Groups], str]

TREE: dict[str, Show] = {}
NAMES: dict[str, Callable[[Boot], Iterable[str]]] = {
    "dev": lambda boot: boot.get("netdevs", ()),
    "slave": lambda boot: [
        slave["name"] for bond in boot["bonds"].values() for slave in bond["slaves"]
    ],
    "bond": lambda boot: boot["bonds"],
    "port": lambda boot: boot.get("queues", ()),
    "txq": lambda boot: [
        str(n) for n in range(max(map(len, boot.get("queues", {}).values()), default=0))
    ],
    "rxq": lambda boot: [
        str(n) for n in range(max(map(len, boot.get("queues", {}).values()), default=0))
    ],
    "pci": lambda boot: boot.get("pci", ()),
    "sysctl": lambda boot: boot.get("sysctl", ()),
    "online_cpu": lambda boot: [f"cpu{n}" for n in boot.get("online", ())],
    "pluggable_cpu": lambda boot: [f"cpu{n}" for n in range(1, boot.get("possible", 1))],
}


class File(NamedTuple):
    """One file that exists now."""

    show: Show
    groups: dict[str, str]


def file(pattern: str) -> Callable[[Show], Show]:
    """Register how a file is shown."""

    def register(show: Show) -> Show:
        assert pattern not in TREE
        TREE[pattern] = show
        return show

    return register


def _fill(pattern: str, boot: Boot) -> Iterator[tuple[str, dict[str, str]]]:
    match = re.search(r"\{(\w+)\}", pattern)
    if match is None:
        yield pattern, {}
        return
    for name in NAMES[match[1]](boot):
        path = pattern[: match.start()] + name + pattern[match.end() :]
        for full, groups in _fill(path, boot):
            yield full, {match[1]: name, **groups}


def files(boot: Boot) -> dict[str, File]:
    """Every file of this kernel, by path."""
    absent = boot.get("absent_files", ())
    folders = tuple(pattern for pattern in absent if pattern.endswith("/"))
    return {
        path: File(show, groups)
        for pattern, show in TREE.items()
        if pattern not in absent and not pattern.startswith(folders)
        for path, groups in _fill(pattern, boot)
        if path not in absent
    }
