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
        top = msgpack.unpackb(
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
    if not (
        type(top) is tuple
        and len(top) == 3
        and type(top[0]) is int
        and type(top[1]) is int
        and top[0] >= 0
        and top[1] >= 0
        and type(top[2]) is tuple
    ):
        return Batch(0, 0, [], ["not [sender incarnation, receiver incarnation, messages]"])
    messages: list[Any] = []
    faults: list[str] = []
    for item in top[2]:
        if type(item) is not tuple or not item or type(item[0]) is not int:
            faults.append("no such message")
            continue
        try:
            messages.append(_BUILD[item[0]](item))
        except _MisfitError as misfit:
            faults.append(str(misfit))
        except KeyError:
            faults.append("no such message")
    return _new(Batch, (top[0], top[1], messages, faults))


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
        f"    if len(item) != {len(fields) + 1}:\n"
        f"        raise Misfit('{message.__name__}: {len(fields)} fields expected')\n"
        f"    _, {names}, = item\n"
        f"    if {tests}:\n"
        f"        return new(cls, item[1:])\n"
        f"    raise Misfit('{message.__name__}: a field is out of range')\n"
    )
    scope: dict[str, Any] = {"Misfit": _MisfitError, "cls": message, "new": tuple.__new__}
    exec(compile(source, f"<validation of {message.__name__}>", "exec"), scope)
    build: Callable[[tuple[Any, ...]], Any] = scope["build"]
    return build


_BUILD: dict[Any, Callable[[tuple[Any, ...]], Any]] = {
    code: _builder(message) for code, message in WIRE.items()
}

assert FRAME_BYTES_MAX <= SNAPSHOT_BYTES_MAX
