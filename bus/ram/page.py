"""A node's page of counters: 64-bit words with names.

The node alone writes it, with one store a word; everybody may read it, also after its death, and
nobody has to ask: looking does not disturb. Which words a kind of node has is its own matter
(``nodes/*/page.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bus.ram.layout import PAGE_BYTES


class Field(NamedTuple):
    """One named run of 64-bit words in a page of counters."""

    name: str
    doc: str
    words: int = 1


class Schema:
    """Names of the words in a page. The common part is the same in every node's page."""

    COMMON = (
        Field("incarnation", "which life of this node wrote the page"),
        Field("state", "0 never started, 1 starting, 2 running, 3 ended by itself"),
        Field("started_ns", "clock at the start of this incarnation"),
        Field("turns", "turns taken"),
        Field("wakeups", "times the process blocked and was woken"),
        Field("msgs_in", "messages taken from the bus"),
        Field("msgs_out", "messages handed to the bus"),
        Field("send_full", "messages dropped: the peer's queue was full"),
        Field("send_dead", "messages dropped: the peer was dead"),
        Field("stale", "messages dropped: meant for or sent by an earlier incarnation"),
        Field("rejected", "messages dropped: they did not fit the vocabulary"),
        Field("errors", "exceptions that ended a turn (a fault of ours)"),
        Field("control_ns", "time spent answering control requests"),
        Field("links_up", "bit n: node number n can be reached (process runtime)", 2),
    )

    def __init__(self, fields: Iterable[Field]) -> None:
        self.fields: tuple[Field, ...] = (*self.COMMON, *fields)
        self._at: dict[str, tuple[int, int]] = {}
        at = 0
        for field in self.fields:
            if field.name in self._at:
                raise ValueError(f"field {field.name} twice in one page")
            self._at[field.name] = (at, field.words)
            at += field.words
        self.words = at
        if at * 8 > PAGE_BYTES:
            raise ValueError(f"page of {at} words is larger than {PAGE_BYTES} bytes")

    def index(self, name: str) -> int:
        """Index of the first word of ``name``."""
        return self._at[name][0]

    def span(self, name: str) -> slice:
        """All words of ``name``."""
        at, words = self._at[name]
        return slice(at, at + words)

    def __contains__(self, name: str) -> bool:
        return name in self._at


COMMON_SCHEMA = Schema(())


class Page:
    """A node's page of counters: 64-bit words with names."""

    def __init__(self, words: memoryview, schema: Schema) -> None:
        self.words = words
        self.schema = schema

    def __getitem__(self, name: str) -> int:
        value: int = self.words[self.schema.index(name)]
        return value

    def __setitem__(self, name: str, value: int) -> None:
        self.words[self.schema.index(name)] = value

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter; only the page's own node may."""
        self.words[self.schema.index(name)] += amount

    def run(self, name: str) -> list[int]:
        """All words of a field."""
        return self.words[self.schema.span(name)].tolist()

    def text(self, name: str) -> str:
        """A field that holds NUL-padded text."""
        return bytes(self.words[self.schema.span(name)]).rstrip(b"\0").decode("utf-8", "replace")

    def set_text(self, name: str, text: str) -> None:
        span = self.schema.span(name)
        size = (span.stop - span.start) * 8
        data = text.encode()[:size].ljust(size, b"\0")
        self.words[span] = memoryview(data).cast("Q")

    def as_dict(self) -> dict[str, int | list[int]]:
        """All fields by name; a field of several words is a list."""
        return {
            f.name: self[f.name] if f.words == 1 else self.run(f.name) for f in self.schema.fields
        }
