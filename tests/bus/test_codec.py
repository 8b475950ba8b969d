"""Messages on the wire: what goes in comes out, what does not fit is named and left out."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.codec import decode_batch, encode_batch
from bus.messages import (
    LOCAL_EVENTS,
    WIRE,
    Between,
    EthFrame,
    Interrupt,
    IntxMessage,
    MemWrite,
    Message,
    MsiWrite,
)

CLASSES = list(WIRE.values())


def limits(message: type[Any]) -> dict[str, tuple[Any, Any]]:
    """(type, limit) of each field, from the annotations."""
    out = {}
    for name, hint in get_type_hints(message, include_extras=True).items():
        if name in message._fields:
            assert get_origin(hint) is Annotated, f"{message.__name__}.{name} has no limit"
            out[name] = get_args(hint)[:2]
    return out


def value(kind: Any, limit: Any) -> st.SearchStrategy[Any]:
    if isinstance(limit, Between):
        return st.integers(limit.low, limit.high)
    if kind is bytes:
        return st.binary(max_size=min(limit.length, 2000))
    if kind is str:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=min(limit.length, 300))
    return st.lists(st.text("abc- ", max_size=20), max_size=min(limit.length, 20)).map(tuple)


def messages() -> st.SearchStrategy[Any]:
    def build(cls: type[Any]) -> st.SearchStrategy[Any]:
        return st.builds(cls, **{f: value(*limit) for f, limit in limits(cls).items()})

    return st.sampled_from(CLASSES).flatmap(build)


@settings(deadline=None)
@given(st.lists(messages(), max_size=8), st.integers(0, 2**63), st.integers(0, 2**63))
def test_what_is_encoded_comes_back(batch: list[Any], sender: int, receiver: int) -> None:
    decoded = decode_batch(encode_batch(sender, receiver, batch))
    assert decoded.faults == []
    assert decoded.messages == batch
    assert [type(m) for m in decoded.messages] == [type(m) for m in batch]
    assert (decoded.sender_incarnation, decoded.receiver_incarnation) == (sender, receiver)


def smallest(message: type[Any]) -> list[Any]:
    """A valid message of the class, as the list of its fields."""
    empty = {bytes: b"", str: ""}
    return [
        limit.low if isinstance(limit, Between) else empty.get(kind, ())
        for kind, limit in limits(message).values()
    ]


@pytest.mark.parametrize("message", CLASSES)
def test_each_range_is_accepted_to_its_ends_and_not_beyond(message: type[Any]) -> None:
    for at, (kind, limit) in enumerate(limits(message).values()):
        if isinstance(limit, Between):
            good, bad = [limit.low, limit.high], [limit.low - 1, limit.high + 1]
        elif kind is bytes:
            good, bad = [b"", b"x" * limit.length], [b"x" * (limit.length + 1)]
        elif kind is str:
            good, bad = ["", "x" * limit.length], ["x" * (limit.length + 1)]
        else:
            good, bad = [(), ("x",) * limit.length], [("x",) * (limit.length + 1), ("x" * 257,)]
        wrong_type = [
            None,
            1.5,
            True,
            [],
            "x" if kind is not str else 5,
            b"x" * (kind is not bytes),
        ]
        for candidate in good:
            assert decode(message, at, candidate).messages, f"field {at}: {candidate!r}"
        for candidate in bad + [w for w in wrong_type if w not in (0, b"")]:
            if kind is tuple or get_origin(kind) is tuple:
                candidate = ("ok", 5) if candidate in ([], True) else candidate
            decoded = decode(message, at, candidate)
            assert not decoded.messages, f"field {at}: {candidate!r} was taken"
            assert len(decoded.faults) == 1


def decode(message: type[Any], at: int, candidate: Any) -> Any:
    fields = smallest(message)
    fields[at] = candidate
    try:
        data = msgpack.packb([1, 1, [[message.CODE, *fields]]])
    except OverflowError:  # beyond 64 bits: cannot even be written; a float stands for it
        data = msgpack.packb([1, 1, [[message.CODE, *fields[:at], 1e30, *fields[at + 1 :]]]])
    return decode_batch(data)


@pytest.mark.parametrize("message", CLASSES)
def test_a_missing_or_additional_field_is_refused(message: type[Any]) -> None:
    fields = [message.CODE, *smallest(message)]
    for wrong in (fields[:-1], [*fields, 0]):
        decoded = decode_batch(msgpack.packb([1, 1, [wrong]]))
        assert (decoded.messages, len(decoded.faults)) == ([], 1)


@pytest.mark.parametrize(
    "item",
    [None, 5, "x", [], [0, 1], [999, 1], ["x"], [[1]], [None], [1.0, 0, 0, 0], [True, 0, 0, 0],
     b"\x01\x02\x03\x04", "\x01abc"],
)  # fmt: skip
def test_an_item_that_is_no_message_is_refused_and_its_neighbours_are_taken(item: Any) -> None:
    good = [MsiWrite.CODE, 0xFEE00000, 0x22]
    decoded = decode_batch(msgpack.packb([3, 4, [good, item, good]]))
    assert decoded.messages == [MsiWrite(0xFEE00000, 0x22)] * 2
    assert len(decoded.faults) == 1


@pytest.mark.parametrize(
    "top",
    [None, 5, [], [1, 1], [1, 1, [], 1], ["a", 1, []], [1, -1, []], [1, 1, 5], [1.0, 1, []], {}],
)
def test_a_top_level_that_is_no_batch_is_one_fault(top: Any) -> None:
    decoded = decode_batch(msgpack.packb(top))
    assert (decoded.messages, len(decoded.faults)) == ([], 1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    decoded = decode_batch(data)
    assert decoded.faults or all(isinstance(m, Message) for m in decoded.messages)


@settings(max_examples=200, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_a_mutated_batch_never_raises_and_yields_only_valid_messages(
    batch: list[Any], data: st.DataObject
) -> None:
    wire = bytearray(encode_batch(1, 1, batch))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    for message in decode_batch(bytes(wire)).messages:
        again = decode_batch(encode_batch(1, 1, [message]))
        assert again.messages == [message], "a message was taken that its own rules refuse"


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 100_000,  # nested deeper than any batch
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million items, it says
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc1",
        b"",
        encode_batch(1, 1, [MemWrite(0, 0, 0)])[:-1],
        encode_batch(1, 1, [MemWrite(0, 0, 0)]) + b"\x00",
    ],
)
def test_a_lie_about_size_or_depth_is_one_fault(data: bytes) -> None:
    decoded = decode_batch(data)
    assert (decoded.messages, len(decoded.faults)) == ([], 1)


def test_events_of_the_runtime_cannot_come_from_the_wire() -> None:
    assert not set(LOCAL_EVENTS) & set(CLASSES)
    assert all(not hasattr(event, "CODE") for event in LOCAL_EVENTS)


def test_numbers_on_the_wire_are_fixed() -> None:
    """A change of these would make two versions misunderstand each other."""
    assert {MemWrite: 1, MsiWrite: 6, IntxMessage: 7, Interrupt: 17, EthFrame: 32}.items() <= {
        message: code for code, message in WIRE.items()
    }.items()
