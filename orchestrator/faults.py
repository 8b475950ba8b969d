"""Faults as the operator says them, and as the pages of the devices show them.

The kinds are ``bus.faults``; here are the words of a command line and the rows of a page. Reading
asks nobody: a row stands in the page of the device for as long as the part is broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bus.faults import (
    APIC,
    BY_NUMBER,
    HITS,
    KIND,
    KINDS,
    NIC,
    ROW_WORDS,
    ROWS,
    SINCE_NS,
    UNTIL_NS,
    VALUE,
    Kind,
    parse,
    show,
)
from bus.ram import Ram
from nodes.machine import APIC as APIC_NODE
from nodes.machine import MachineSettings
from orchestrator.errors import BottomhalfError, did_you_mean, words
from orchestrator.pages import schema_of


class Active(NamedTuple):
    """A fault that a device has now."""

    kind: Kind
    text: str  # as one types it: lose-msi=1/100
    since_ns: int
    until_ns: int  # 0: until it is mended
    hits: int


def rows(page: Sequence[int]) -> list[Active]:
    """The faults in a page's field ``faults``, the oldest first."""
    found = []
    for at in range(0, ROWS * ROW_WORDS, ROW_WORDS):
        kind = BY_NUMBER.get(page[at + KIND] - 1)
        if kind is not None:
            found.append(
                Active(
                    kind,
                    show(kind, page[at + VALUE]),
                    page[at + SINCE_NS],
                    page[at + UNTIL_NS],
                    page[at + HITS],
                )
            )
    return sorted(found, key=lambda fault: fault.since_ns)


def of(ram: Ram, settings: MachineSettings, node: str) -> list[Active]:
    """The faults of a node; those of a dead one died with it, its page has the last it had."""
    if not target_of(settings, node):
        return []
    return rows(ram.page(node, schema_of(settings, node)).run("faults"))


def target_of(settings: MachineSettings, node: str) -> str:
    """Which kinds a node can suffer; nothing if it has none."""
    if node in settings.nic_names:
        return NIC
    return APIC if node == APIC_NODE else ""


def kinds_of(target: str) -> list[str]:
    """Names of the kinds that a node of this sort can suffer."""
    return [kind.name for kind in KINDS.values() if target in kind.targets]


def kind_of(word: str, targets: Iterable[str]) -> Kind:
    """The kind of that name; the message for one that this device cannot suffer."""
    able = list(dict.fromkeys(name for target in targets for name in kinds_of(target)))
    kind = KINDS.get(word)
    if kind is None or kind.name not in able:
        what = f"no fault `{word}`" if kind is None else f"this device cannot suffer `{word}`"
        raise BottomhalfError(f"fault: {what}{did_you_mean(word, able)}", f"kinds: {words(able)}")
    return kind


def wanted(word: str, targets: Iterable[str]) -> tuple[Kind, int]:
    """``lose-msi=1/100`` as kind and value."""
    name, equals, text = word.partition("=")
    kind = kind_of(name, targets)
    try:
        return kind, parse(kind, text if equals else None)
    except ValueError as error:
        raise BottomhalfError(
            f"fault {word}: allowed behind `{name}=` is {error}", f"{kind.example}: {kind.doc}"
        ) from None
