"""How a node answers ``Snapshot``: a table of names and functions that give plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgpack

from bus.messages import SNAPSHOT_BYTES_MAX, Reply, Snapshot

Asked = TypeVar("Asked")


def answer(message: Snapshot, table: Mapping[str, Callable[[Asked], Any]], node: Asked) -> Reply:
    """The reply: ``ok`` and the value, or a text that says what can be asked."""
    what = table.get(message.what)
    if what is None:
        known = ", ".join(sorted(table))
        return Reply(message.request, 0, msgpack.packb(f"no snapshot of that name; known: {known}"))
    value: bytes = msgpack.packb(what(node))
    if len(value) > SNAPSHOT_BYTES_MAX:
        return Reply(message.request, 0, msgpack.packb("the snapshot is larger than 64 KiB"))
    return Reply(message.request, 1, value)
