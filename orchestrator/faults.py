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
    PORT,
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
from nodes.lan.page import GATEWAY_PORT, LAN_SCHEMA
from nodes.machine import APIC as APIC_NODE
from nodes.machine import GATEWAY, LAN, MachineSettings
from orchestrator.errors import BottomhalfError, did_you_mean, words
from orchestrator.pages import schema_of


class Active(NamedTuple):
    """A fault that a device has now."""

    kind: Kind
    text: str  # as one types it: lose-msi=1/100
    since_ns: int
    until_ns: int  # 0: until it is mended
    hits: int


class Place(NamedTuple):
    """Where a sort of faults of one target is kept: a node, and the port if it is the switch."""

    target: str  # the sort: NIC, APIC, PORT
    node: str
    port: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.port or self.node


def rows(page: Sequence[int]) -> list[Active]:
    """The faults in (a part of) a page's field ``faults``, the oldest first."""
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


def rows_of_port(page: Sequence[int], port: int) -> list[Active]:
    """Those of one port, in the field ``faults`` of the switch's page."""
    at = port * ROWS * ROW_WORDS
    return rows(page[at : at + ROWS * ROW_WORDS])


def at(ram: Ram, settings: MachineSettings, place: Place) -> list[Active]:
    """The faults at one place; those of a dead node died with it, its page has the last it had."""
    if place.target == PORT:
        page = ram.page(LAN, LAN_SCHEMA).run("faults")
        return rows_of_port(page, port_number(settings, place.port))
    return rows(ram.page(place.node, schema_of(settings, place.node)).run("faults"))


def of(ram: Ram, settings: MachineSettings, name: str) -> list[Active]:
    """All faults of a node, or of the gateway's cable."""
    return [fault for place in places(settings, name) for fault in at(ram, settings, place)]


def port_number(settings: MachineSettings, name: str) -> int:
    """Number of a switch port."""
    return GATEWAY_PORT if name == GATEWAY else settings.nic_names.index(name)


def names(settings: MachineSettings) -> tuple[str, ...]:
    """Everything that can have faults, in the order of lists."""
    return tuple(n for n in (*settings.node_names, GATEWAY) if places(settings, n))


def places(settings: MachineSettings, name: str) -> list[Place]:
    """Where faults of a node, or of the gateway's cable, are kept; a NIC has its own, and the
    switch those of its cable."""
    if name in settings.nic_names:
        return [Place(NIC, name), Place(PORT, LAN, name)]
    if name == GATEWAY:
        return [Place(PORT, LAN, GATEWAY)]
    return [Place(APIC, name)] if name == APIC_NODE else []


def kinds_of(target: str) -> list[str]:
    """Names of the kinds that a node of this sort can suffer."""
    return [kind.name for kind in KINDS.values() if target in kind.targets]


def kind_of(word: str, targets: Iterable[str], where: str = "this device") -> Kind:
    """The kind of that name; the message for one that the device cannot suffer."""
    targets = list(targets)
    able = list(dict.fromkeys(name for target in targets for name in kinds_of(target)))
    kind = KINDS.get(word)
    if kind is None or kind.name not in able:
        what = f"no fault `{word}`" if kind is None else f"{where} cannot suffer `{word}`"
        raise BottomhalfError(f"fault: {what}{did_you_mean(word, able)}", f"kinds: {words(able)}")
    return kind


def wanted(word: str, targets: Iterable[str], where: str = "this device") -> tuple[Kind, int]:
    """``lose-msi=1/100`` as kind and value."""
    name, equals, text = word.partition("=")
    kind = kind_of(name, targets, where)
    try:
        return kind, parse(kind, text if equals else None)
    except ValueError as error:
        raise BottomhalfError(
            f"fault {word}: allowed behind `{name}=` is {error}", f"{kind.example}: {kind.doc}"
        ) from None
