"""MessagePack <-> messages, with validation derived from the annotations in ``bus.messages``.

A batch is what one node sends to one peer at the end of a turn, in one ZeroMQ message::

    [sender incarnation, receiver incarnation, [[code, field, ...], ...]]

Whatever arrives is checked (shape, types, ranges, sizes) before it becomes a message; a batch with
one bad message still yields its good ones. ``decode_batch`` never raises on any bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgpack

from bus.messages import FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX, WIRE, AtMost, Between

BATCH_BYTES_MAX = 8 * 1024 * 1024
MESSAGES_MAX = 65536

_packb = msgpack.Packer(autoreset=True).pack
_unpackb = msgpack.unpackb
_new = tuple.__new__  # a NamedTuple's own is a Python function


class Batch(NamedTuple):
    """A decoded batch; ``faults`` says in words what did not fit."""

    sender_incarnation: int
    receiver_incarnation: int
    messages: list[Any]
    faults: list[str]


def encode_batch(
    sender_incarnation: int, receiver_incarnation: int, messages: Sequence[Any]
) -> bytes:
    """Bytes of one batch."""
    items: Sequence[tuple[Any, ...]]
    if len(messages) == 1:  # nearly all batches of a machine that is not loaded
        (m,) = messages
        items = ((m.CODE, *m),)
    else:
        items = [(m.CODE, *m) for m in messages]
    packed: bytes = _packb((sender_incarnation, receiver_incarnation, items))
    return packed


def decode_batch(data: bytes | memoryview) -> Batch:
    """Decode and validate; anything that does not fit is named in ``faults`` and left out."""
    try:
        top = _unpackb(
            data,
            use_list=False,
            max_str_len=SNAPSHOT_BYTES_MAX,
            max_bin_len=SNAPSHOT_BYTES_MAX,
            max_array_len=MESSAGES_MAX,
            max_map_len=0,
            max_ext_len=0,
        )
    except Exception as error:  # whatever msgpack raises, the bytes are at fault
        return Batch(0, 0, [], [f"not a MessagePack batch: {type(error).__name__}"])
    if type(top) is not tuple or len(top) != 3:
        return _NO_BATCH
    sent_by, sent_to, items = top
    if (
        type(sent_by) is not int
        or type(sent_to) is not int
        or sent_by < 0
        or sent_to < 0
        or type(items) is not tuple
    ):
        return _NO_BATCH
    try:
        if len(items) == 1:  # nearly all batches of a machine that is not loaded
            (item,) = items
            messages = [_BUILD[item[0]](item)]
        else:
            messages = [_BUILD[item[0]](item) for item in items]
    except Exception:  # at least one does not fit
        return _sorted_out(sent_by, sent_to, items)
    return _new(Batch, (sent_by, sent_to, messages, []))


_NO_BATCH = Batch(0, 0, [], ["not [sender incarnation, receiver incarnation, messages]"])


def _sorted_out(sent_by: int, sent_to: int, items: tuple[Any, ...]) -> Batch:
    """The good messages of a batch with bad ones, and what is wrong with those."""
    messages: list[Any] = []
    faults: list[str] = []
    for item in items:
        build = None
        if type(item) is tuple and item and type(item[0]) is int:
            build = _BUILD.get(item[0])
        if build is None:
            faults.append("no such message")
            continue
        try:
            messages.append(build(item))
        except _MisfitError as misfit:
            faults.append(str(misfit))
    return Batch(sent_by, sent_to, messages, faults)


class _MisfitError(Exception):
    """A message whose fields do not fit its class."""


def _checker(name: str, hint: Any) -> str:
    """Source of a boolean expression over the variable ``name`` for one annotated field."""
    limit: Any = None
    if get_origin(hint) is Annotated:
        hint, limit = get_args(hint)[:2]
    if hint is int and isinstance(limit, Between):
        return f"type({name}) is int and {limit.low} <= {name} <= {limit.high}"
    if hint in (str, bytes) and isinstance(limit, AtMost):
        return f"type({name}) is {hint.__name__} and len({name}) <= {limit.length}"
    if get_origin(hint) is tuple and isinstance(limit, AtMost):
        return (
            f"type({name}) is tuple and len({name}) <= {limit.length} and "
            f"all(type(w) is str and len(w) <= 256 for w in {name})"
        )
    raise TypeError(f"no validation rule for {hint!r}")


def _builder(message: type[Any]) -> Callable[[tuple[Any, ...]], Any]:
    """Compile the function that turns (code, field, ...) into a validated message."""
    hints = get_type_hints(message, include_extras=True)
    fields = message._fields
    names = ", ".join(f"f{i}" for i in range(len(fields)))
    tests = " and ".join(f"({_checker(f'f{i}', hints[f])})" for i, f in enumerate(fields))
    source = (
        "def build(item):\n"
        f"    if type(item) is tuple and len(item) == {len(fields) + 1}:\n"
        f"        code, {names}, = item\n"
        f"        if type(code) is int and {tests}:\n"
        f"            return new(cls, item[1:])\n"
        f"        raise Misfit('{message.__name__}: a field is out of range')\n"
        f"    raise Misfit('{message.__name__}: {len(fields)} fields expected')\n"
    )
    scope: dict[str, Any] = {"Misfit": _MisfitError, "cls": message, "new": tuple.__new__}
    exec(compile(source, f"<validation of {message.__name__}>", "exec"), scope)
    build: Callable[[tuple[Any, ...]], Any] = scope["build"]
    return build


_BUILD: dict[Any, Callable[[tuple[Any, ...]], Any]] = {
    code: _builder(message) for code, message in WIRE.items()
}

assert FRAME_BYTES_MAX <= SNAPSHOT_BYTES_MAX
