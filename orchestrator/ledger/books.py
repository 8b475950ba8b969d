"""What a book is made of: edges, counted at both ends, and accounts of sources and ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Edge(NamedTuple):
    """One hand-over: what was given and what was taken, [other, request, reply] or one number."""

    name: str
    nodes: tuple[str, ...]
    kind: str  # "request", "reply", "other", "interrupt", "wire"
    out: int
    taken: int

    @property
    def difference(self) -> int:
        return self.out - self.taken

    @property
    def within(self) -> bool:
        """Inside one node?"""
        return len(self.nodes) == 1


@dataclass
class Account:
    """Sources and ends of one kind of thing."""

    sources: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)

    def source(self, name: str, count: int) -> None:
        if count:
            self.sources[name] = self.sources.get(name, 0) + count

    def end(self, name: str, count: int) -> None:
        if count:
            self.ends[name] = self.ends.get(name, 0) + count

    @property
    def difference(self) -> int:
        return sum(self.sources.values()) - sum(self.ends.values())

    def as_json(self) -> dict[str, Any]:
        return {"sources": self.sources, "ends": self.ends, "difference": self.difference}

    def text(self) -> str:
        """``1213 sent = 1200 answered + 13 lan cable_out``."""
        left = " + ".join(f"{n} {name}" for name, n in self.sources.items()) or "0"
        right = " + ".join(f"{n} {name}" for name, n in self.ends.items()) or "0"
        return f"{left} = {right}"
