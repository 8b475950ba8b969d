"""Counters of all nodes over all their lives: present pages plus those that dead lives left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bus.ram import Ram, Schema
from nodes.machine import MachineSettings
from orchestrator.machines.machine import Machine, NodeState
from orchestrator.pages import schema_of

#: archived(node, incarnation) as ``Machine.archived_page``
Archive = Callable[[str, int], Mapping[str, int | list[int]] | None]


class Counts:
    """One reading of all pages."""

    def __init__(
        self,
        ram: Ram,
        settings: MachineSettings,
        states: Mapping[str, NodeState],
        archived: Archive,
    ) -> None:
        self.settings = settings
        self.states = states
        self._ram = ram
        self._words: dict[str, list[int]] = {}
        #: words of lives that ended, apart: what waited in them is lost
        self._dead: dict[str, list[int]] = {}
        self._schemas = {name: schema_of(settings, name) for name in settings.node_names}
        for name, schema in self._schemas.items():
            words = ram.page(name, schema).words[: schema.words].tolist()
            dead = [0] * schema.words
            for incarnation in range(1, states[name].incarnation):
                page = archived(name, incarnation)
                if page is not None:
                    _add(dead, schema, page)
            self._words[name] = words
            self._dead[name] = dead

    @classmethod
    def of(cls, machine: Machine) -> Counts:
        """Counters of a machine now."""
        return cls(machine.ram, machine.settings, machine.states(), machine.archived_page)

    def get(self, node: str, field: str, index: int = 0) -> int:
        """Word ``index`` of a counter, over all lives."""
        at = self._schemas[node].index(field) + index
        return self._words[node][at] + self._dead[node][at]

    def total(self, node: str, field: str) -> int:
        """All words of a counter."""
        span = self._schemas[node].span(field)
        return sum(self._words[node][span]) + sum(self._dead[node][span])

    def now(self, node: str, field: str, index: int = 0) -> int:
        """A gauge of the present life."""
        return self._words[node][self._schemas[node].index(field) + index]

    def left(self, node: str, field: str, index: int = 0) -> int:
        """A gauge as ended lives left it."""
        return self._dead[node][self._schemas[node].index(field) + index]

    def bits(self, node: str, field: str) -> int:
        """Bits that are set in a field of the present life."""
        return sum(word.bit_count() for word in self._words[node][self._schemas[node].span(field)])

    def in_rings(self, nic: str) -> int:
        """Frames that lie in a NIC's receive rings now: written by it, taken by no driver."""
        from orchestrator.views import rings  # noqa: PLC0415  (only needed where something is broken)

        found = (rings.read(self._ram, nic, rings.RX, n) for n in range(self.settings.queues))
        return sum(d.dd and d.eop for ring in found for d in ring.descriptors)

    def killed(self, node: str) -> bool:
        """Did a life of this node end?"""
        state = self.states[node]
        return not state.alive or state.incarnation > 1

    def frozen(self, node: str) -> bool:
        return self.states[node].frozen


def _add(total: list[int], schema: Schema, page: Mapping[str, int | list[int]]) -> None:
    for field in schema.fields:
        value = page[field.name]
        at = schema.index(field.name)
        for n, word in enumerate(value if isinstance(value, list) else [value]):
            total[at + n] += word
